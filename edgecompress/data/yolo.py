"""Images with boxes in YOLO's form: a text file beside each image, a line for each object.

A line is the number of the class, then centre x, centre y, width and height as shares of the
image: ``0 0.48 0.63 0.69 0.71``. Files stand as Ultralytics wants them: ``labels/train/1.txt`` for
``images/train/1.jpg``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgecompress.boxes import Objects
from edgecompress.data.base import Split
from edgecompress.data.boxed import BoxedData
from edgecompress.data.class_folders import files_below
from edgecompress.data.files import sources
from edgecompress.errors import DataError
from edgecompress.processors.pictures import SUFFIXES, check_picture, picture_size
from edgecompress.reading import at_home
from edgecompress.textfiles import read_lines
from edgecompress.values import Example
from edgecompress.yamlfile import read_yaml

NAMES = ("config.yaml", "data.yaml", "dataset.yaml")
IMAGES, LABELS = "images", "labels"


class YoloData(BoxedData):
    """Folders of images, with a text file of boxes for each."""

    also_called: ClassVar[tuple[str, ...]] = ("ultralytics", "darknet", "yolov5", "yolov8")

    format: Literal["yolo"] = "yolo"
    names: Path | tuple[str, ...] | None = None
    """The file that names the classes (`names` in YAML, or one on each line), or the names
    themselves; left out: config.yaml, data.yaml or dataset.yaml in `root`."""
    unlabelled: Literal["refuse", "nothing"] = "refuse"
    """What an image without a text file is: a mistake, or one that shows ``nothing``."""

    def files(self, split: Split) -> tuple[Path, ...]:
        """Give the images of a split, and the files of their boxes."""
        images = [image for folder in super().files(split) for image in _images(folder)]
        texts = [file for file in map(label_file, images) if file.is_file()]
        return (*images, *texts)

    def own(self, split: Split, group: str | None = None) -> Iterator[tuple[Example, str]]:  # noqa: ARG002
        """Read the images of a split, in the order of their folders and names."""
        folders = super().files(split)
        for folder, source in zip(folders, sources(self._paths(split)), strict=True):
            for example in self.parse(folder, source):
                yield example, ""

    def parse(self, file: Path, source: str) -> Iterator[Example]:
        """Read the images of a folder."""
        names = self._names()
        for image in _images(file):
            check_picture(image)
            yield Example({"image": image}, self._objects(image, names), source, image.name)

    def _objects(self, image: Path, names: Mapping[int, str]) -> Objects:
        file = label_file(image)
        if not file.is_file():
            if self.unlabelled == "nothing":
                return Objects()
            raise DataError(
                f"has no boxes, as {file} is missing; an image without objects has an empty file "
                "there, or say data.unlabelled: nothing",
                file=image,
            )
        height, width = picture_size(image)
        found = []
        for number, line in enumerate(read_lines(file) if file.stat().st_size else (), start=1):
            if line.strip():
                found.append((number, *_read(line, names, width, height, file, number)))
        return self.checked(found, width, height, file)

    def _names(self) -> Mapping[int, str]:
        if isinstance(self.names, tuple):
            return dict(enumerate(self.names))
        root = at_home(self.root)
        places = [root / self.names] if self.names else [root / name for name in NAMES]
        file = next((one for one in places if one.is_file()), None)
        if file is None:
            raise DataError(
                f"nobody says what the classes are called: there is no {' or '.join(NAMES)}; name "
                "such a file, or the classes in their order (data.names)",
                file=places[0] if self.names else root,
            )
        if file.suffix.lower() not in (".yaml", ".yml"):
            return dict(enumerate(line.strip() for line in read_lines(file) if line.strip()))
        document = read_yaml(file).document
        return names_of(document.get("names") if isinstance(document, Mapping) else None, file)


def _images(folder: Path) -> list[Path]:
    return files_below(folder, "images", SUFFIXES)


def names_of(found: Any, file: Path) -> Mapping[int, str]:
    """Read the names of classes: a list, or keys and values.

    Raises
    ------
    DataError
        When they are neither.
    """
    try:
        pairs = found.items() if isinstance(found, Mapping) else enumerate(found)
        names = {int(number): str(name) for number, name in pairs}
    except (TypeError, ValueError):
        names = {}
    if not names or not isinstance(found, Mapping | list):
        raise DataError("holds no names of classes (names: [person, …])", file=file)
    return names


def label_file(image: Path) -> Path:
    """Give the text file of an image: in ``labels`` where that is in ``images``, else beside it."""
    parts = list(image.parts)
    if IMAGES in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index(IMAGES)] = LABELS
    return Path(*parts).with_suffix(".txt")


def _read(
    line: str, names: Mapping[int, str], width: int, height: int, file: Path, number: int
) -> tuple[str, Sequence[float], bool]:
    cells = line.split()
    try:
        kind, values = int(cells[0]), [float(one) for one in cells[1:]]
    except (ValueError, IndexError):
        kind, values = -1, []
    if len(values) > 4 and not len(values) % 2 and len(values) >= 6:  # a polygon around the object
        across, down = values[::2], values[1::2]
        corners = [min(across), min(down), max(across), max(down)]
    elif len(values) == 4:
        x, y, w, h = values
        corners = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    else:
        raise DataError(
            "a line must be the number of a class and four numbers (centre x and y, width, height)",
            file=file, line=number,
        )  # fmt: skip
    if kind not in names:
        raise DataError(
            f"class {kind} has no name; there are {len(names)} (data.names)", file=file, line=number
        )
    sides = (width, height, width, height)
    return names[kind], [one * side for one, side in zip(corners, sides, strict=True)], False
