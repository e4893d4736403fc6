"""Folders of images, one folder for each class: ``train/cat/1.jpg``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from edgecompress.data.class_folders import ClassFolders
from edgecompress.processors.pictures import SUFFIXES, check_picture


class ImagesData(ClassFolders):
    """Images whose class is the name of the folder that they lie in."""

    holds: ClassVar[str] = "image"
    several: ClassVar[str] = "images"
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES

    format: Literal["images"] = "images"

    def check(self, file: Path) -> None:
        """See that an image can be read to its end."""
        check_picture(file)
