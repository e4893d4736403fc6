"""What formats have in common whose files lie in one folder for each class: ``train/cat/1.jpg``."""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field, model_validator

from edgecompress.data.base import SPLITS, Split
from edgecompress.data.drawing import DrawnData
from edgecompress.data.files import Paths, check_apart, sources
from edgecompress.errors import DataError
from edgecompress.reading import at_home
from edgecompress.values import Example, file_digest, json_digest


class ClassFolders(DrawnData):
    """Files whose class is the name of the folder that they lie in."""

    holds: ClassVar[str]
    """The input that a file is."""
    several: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]

    root: Path = Path()
    """Folder that the others are relative to."""
    train: Paths = Field(default=())
    """Folders to learn from, each with a folder for every class; `.` is `root` itself."""
    validation: Paths = Field(default=())
    """Folders to choose, tune and stop on."""
    test: Paths = Field(default=())
    """Folders read once, at the end, for the figures that are shown."""

    @abstractmethod
    def check(self, file: Path) -> None:
        """See that a file can be read to its end.

        Raises
        ------
        DataError
            Naming it.
        """

    @model_validator(mode="after")
    def _apart(self) -> ClassFolders:
        check_apart({split: getattr(self, split) for split in SPLITS}, "folder")
        return self

    def has_own(self, split: Split) -> bool:
        """Say whether a split has folders of its own."""
        return bool(getattr(self, split))

    def offers(self, split: Split) -> bool:
        """Say whether a split has folders, or is drawn from those of train."""
        return self.has_own("train" if self.is_drawn(split) else split)

    def own(self, split: Split, group: str | None = None) -> Iterator[tuple[Example, str]]:  # noqa: ARG002
        """Read the files of a split, in the order of their classes and names."""
        folders = self._folders(split)
        for folder, source in zip(folders, self._sources(split), strict=True):
            for label, file in self._found(folder):
                self.check(file)
                name = file.relative_to(folder).as_posix()
                yield Example({self.holds: file}, label, source, name), ""

    def files(self, split: Split) -> tuple[Path, ...]:
        """Give the files of a split."""
        return tuple(file for folder in self._folders(split) for _, file in self._found(folder))

    def named_files(self, split: Split) -> tuple[tuple[str, Path], ...]:  # noqa: ARG002
        """Name none: there are thousands, and the digest of the split stands for all of them."""
        return ()

    def digest(self, split: Split) -> str:
        """SHA-256 over the files, their names and the options."""
        options = self.model_dump(mode="json", exclude={"root", "seen_test", "split", *SPLITS})
        found = hashlib.sha256(json_digest(options).encode())
        folders = self._folders(split)
        for folder, source in zip(folders, self._sources(split), strict=True):
            for _, file in self._found(folder):
                name = file.relative_to(folder).as_posix()
                found.update(f"\n{source} {name} {file_digest(file)}".encode())
        if self.split is not None and self.is_drawn(split):
            found.update(f"\n{split} {json_digest(self.split.model_dump())}".encode())
        return found.hexdigest()

    def locate(self, split: Split, label: str) -> tuple[Path | None, int | None]:
        """Find the folder of a class."""
        places = (folder / label for folder in self._folders(split))
        return next((place for place in places if place.is_dir()), None), None

    def facts(self) -> dict[str, str]:
        """Say what lies among the files and is none of theirs."""
        left = [
            file.name
            for split in SPLITS
            for folder in (self._folders(split) if self.has_own(split) else ())
            for file in _files(folder)
            if file.suffix.lower() not in self.suffixes
        ]
        told = f"{len(left)} files that are no {self.several}, such as {left[0]}" if left else ""
        return {**({"left out": told} if told else {}), **super().facts()}

    def _folders(self, split: Split) -> tuple[Path, ...]:
        return tuple(at_home(self.root) / path for path in self._paths(split))

    def _sources(self, split: Split) -> tuple[str, ...]:
        """Name the folders as results do; the one that is all of `root` is called as its files."""
        paths = self._paths(split)
        return sources(tuple(path if path.name else Path(self.several) for path in paths))

    def _paths(self, split: Split) -> tuple[Path, ...]:
        paths: tuple[Path, ...] = getattr(self, "train" if self.is_drawn(split) else split)
        if not paths:
            raise DataError(
                f"the {split} split is empty; list its folders under data.{split}, or draw it from "
                "train by data.split"
            )
        return paths

    def _found(self, folder: Path) -> list[tuple[str, Path]]:
        """Give the files below a folder with their classes, sorted.

        Raises
        ------
        DataError
            When there is no such folder, a class without a file, or no class.
        """
        if not folder.is_dir():
            raise DataError(f"there is no such folder of {self.several}", file=folder)
        classes = sorted(one for one in folder.iterdir() if one.is_dir() and _seen(one))
        if not classes:
            raise DataError(
                f"holds no folder of a class; put the {self.several} of each class into a folder "
                "of its name, or name a table of paths and labels (format: csv)",
                file=folder,
            )
        found = []
        for place in classes:
            if not place.name.isprintable():
                raise DataError("results cannot hold this name; give it a plain one", file=place)
            found += [
                (place.name, file) for file in files_below(place, self.several, self.suffixes)
            ]
        return found


def files_below(folder: Path, several: str, suffixes: Sequence[str]) -> list[Path]:
    """Give the files of a kind in a folder and those below it, sorted.

    Raises
    ------
    DataError
        When there is no such folder, no such file in it, or one whose name results cannot hold.
    """
    if not folder.is_dir():
        raise DataError(f"there is no such folder of {several}", file=folder)
    found = [file for file in _files(folder) if file.suffix.lower() in suffixes]
    for file in found:
        if not str(file.relative_to(folder)).isprintable():  # also bytes that are no UTF-8
            raise DataError("results cannot hold this name; give it a plain one", file=file)
    if not found:
        known = ", ".join(suffixes)
        raise DataError(f"holds no {several.removesuffix('s')} ({known})", file=folder)
    return found


def _files(folder: Path) -> list[Path]:
    """Give the files below a folder, but for what other programs hide, sorted."""
    found = []
    for place, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if _seen(Path(name)))
        found += [Path(place) / name for name in sorted(names) if _seen(Path(name))]
    return sorted(found)


def _seen(path: Path) -> bool:
    return not path.name.startswith(".")
