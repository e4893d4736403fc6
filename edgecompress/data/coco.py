"""Images with boxes in COCO's JSON: ``images``, ``annotations`` and ``categories`` in one file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from edgecompress.data.boxed import BoxedData
from edgecompress.data.files import Paths
from edgecompress.errors import DataError
from edgecompress.processors.pictures import check_picture, picture_size
from edgecompress.reading import at_home, read_json
from edgecompress.textfiles import check_file
from edgecompress.values import Example

MOST_BYTES = 512 * 2**20
"""COCO's own file of training has 450 MB; a file is held whole."""


class CocoData(BoxedData):
    """Files of annotations, and folders of the images that they name."""

    also_called: ClassVar[tuple[str, ...]] = ("coco-json", "ms-coco", "coco_detection")

    format: Literal["coco"] = "coco"
    images: Paths = Field(default=(Path(),))
    """Folders in which a file's `file_name` is looked for, relative to `root`."""

    def parse(self, file: Path, source: str) -> Iterator[Example]:
        """Read the images of a file of annotations; one without any shows no object."""
        check_file(file)
        document = read_json(file, MOST_BYTES)
        try:
            names = {
                _whole(one, "id", f"categories[{n}]"): str(one.get("name", one["id"]))
                for n, one in enumerate(_list(document, "categories"))
            }
            marked: dict[Any, list[tuple[str, Mapping[str, Any]]]] = defaultdict(list)
            for n, one in enumerate(_list(document, "annotations")):
                place = f"annotations[{n}]"
                marked[_whole(one, "image_id", place)].append((place, one))
            for n, one in enumerate(_list(document, "images")):
                number, name = _whole(one, "id", f"images[{n}]"), one.get("file_name")
                image = self._image(name, f"images[{n}]")
                yield self._example(image, marked.pop(number, []), names, file, source)
            for left in marked.values():
                place, one = left[0]
                raise DataError(f"{place} is of image {one['image_id']}, which is not listed")
        except DataError as error:
            raise error if error.file else DataError(error.message, file=file) from None

    def _example(
        self, image: Path, marked: Sequence[tuple[str, Mapping[str, Any]]],
        names: Mapping[int, str], file: Path, source: str,
    ) -> Example:  # fmt: skip
        height, width = picture_size(check_picture(image))
        found = []
        for place, one in marked:
            box, kind = one.get("bbox"), one.get("category_id")
            if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
                raise DataError(f"{place} has no bbox of four numbers (left, top, width, height)")
            if not isinstance(kind, int) or kind not in names:
                raise DataError(f"{place} is of category {kind}, which is not listed")
            left, top, wide, high = box
            corners = (left, top, left + wide, top + high)
            found.append((place, names[kind], corners, bool(one.get("iscrowd", 0))))
        objects = self.checked(found, width, height, file)
        return Example({"image": image}, objects, source, image.name)

    def _image(self, name: Any, place: str) -> Path:
        if not isinstance(name, str) or not name.isprintable() or not name:
            raise DataError(f"{place} has no file_name")
        root = at_home(self.root)
        places = [root / folder / name for folder in self.images]
        found = next((one for one in places if one.is_file()), None)
        if found is None:
            raise DataError(
                f"{place} is {name}, which is not in "
                f"{' or '.join(str(one.parent) for one in places)} (data.images)"
            )
        return found


def _list(document: Any, key: str) -> list[Any]:
    value = document.get(key) if isinstance(document, Mapping) else None
    if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
        raise DataError(f"has no list {key!r} of objects, so that this is no COCO file")
    return value


def _whole(one: Mapping[str, Any], key: str, place: str) -> int:
    value = one.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise DataError(f"{place} has no number {key!r}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
