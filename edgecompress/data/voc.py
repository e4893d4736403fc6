"""Images with boxes in Pascal VOC's form: an XML file for each image, and lists of their names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal
from xml.etree import ElementTree

from edgecompress.data.boxed import BoxedData
from edgecompress.errors import DataError
from edgecompress.processors.pictures import SUFFIXES, check_picture, picture_size
from edgecompress.reading import at_home, read_bytes
from edgecompress.textfiles import read_lines
from edgecompress.values import Example

MOST_BYTES = 4 * 2**20
"""Of an image's XML; a thousand objects have 300 kB."""
EDGES = ("xmin", "ymin", "xmax", "ymax")


class VocData(BoxedData):
    """Lists of names: of each an image and an XML file of its objects."""

    also_called: ClassVar[tuple[str, ...]] = ("pascal-voc", "pascal_voc", "voc2007", "voc2012")

    format: Literal["voc"] = "voc"
    images: Path = Path("JPEGImages")
    """Folder of the images, relative to `root`."""
    annotations: Path = Path("Annotations")
    """Folder of the XML files, relative to `root`."""

    def parse(self, file: Path, source: str) -> Iterator[Example]:
        """Read the images of a list; what stands behind a name (1, -1) is left out."""
        for number, line in enumerate(read_lines(file), start=1):
            name = line.split()[0] if line.split() else ""
            if not name:
                continue
            if "/" in name or not name.isprintable() or name.startswith("."):
                raise DataError("a line must be the name of an image", file=file, line=number)
            yield self._example(name, file, number, source)

    def _example(self, name: str, file: Path, number: int, source: str) -> Example:
        root = at_home(self.root)
        folder, marked = root / self.images, root / self.annotations / f"{name}.xml"
        image = next((folder / (name + one) for one in (".jpg", ".png", *SUFFIXES)
                      if (folder / (name + one)).is_file()), None)  # fmt: skip
        if image is None:
            raise DataError(f"there is no image {name} in {folder}", file=file, line=number)
        if not marked.is_file():
            raise DataError(f"there are no boxes of {name}: {marked} is missing", file=file,
                            line=number)  # fmt: skip
        height, width = picture_size(check_picture(image))
        found = []
        for place, one in enumerate(_root(marked).findall("object"), start=1):
            where = f"object {place}"
            label = (one.findtext("name") or "").strip()
            if not label:
                raise DataError(f"{where} has no name", file=marked)
            corners = [_number(one, edge, where, marked) for edge in EDGES]
            found.append((where, label, corners, one.findtext("difficult", "0").strip() == "1"))
        objects = self.checked(found, width, height, marked)
        return Example({"image": image}, objects, source, name)


def _root(file: Path) -> Any:
    content = read_bytes(file, MOST_BYTES)
    # Entities, which can name files or grow without bound, are of a document type only.
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise DataError("an XML file of boxes has no document type", file=file)
    try:
        return ElementTree.fromstring(content)  # noqa: S314 - without a document type it is harmless
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"is no XML ({error})", file=file) from None


def _number(found: Any, edge: str, where: str, file: Path) -> float:
    text = found.findtext(f"bndbox/{edge}")
    try:
        return float(text)
    except (TypeError, ValueError):
        raise DataError(f"{where} has no number {edge}", file=file) from None
