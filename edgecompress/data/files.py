"""What all formats that lie in files have in common: the paths of each split, and their names."""

from __future__ import annotations

import hashlib
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from edgecompress.data.base import SPLITS, Split
from edgecompress.data.drawing import DrawnData
from edgecompress.errors import DataError
from edgecompress.reading import at_home
from edgecompress.textfiles import check_file
from edgecompress.values import Example, file_digest, json_digest

SPLIT_WORDS = frozenset({"train", "dev", "valid", "validation", "val", "test", "eval"})


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | Path) else value


Paths = Annotated[
    tuple[Path, ...], BeforeValidator(_listed, json_schema_input_type=Path | tuple[Path, ...])
]


def check_apart(paths: Mapping[Split, Sequence[Path]], kind: str) -> None:
    """Refuse paths that stand twice in a split, or in test and in another one (ValueError)."""
    seen: dict[Path, Split] = {}
    for split in SPLITS:
        for path in paths[split]:
            before = seen.setdefault(path, split)
            if split == "test" and before != split:
                raise ValueError(f"{path} is in {before} and in test; a test set stays unseen")
        if len(set(paths[split])) != len(paths[split]):
            raise ValueError(f"{split} names a {kind} twice")


class FileData(DrawnData):
    """Data in text files, some for each split."""

    root: Path = Path()
    """Folder that the paths are relative to."""
    train: Paths = Field(default=())
    """Files to learn from, relative to `root`."""
    validation: Paths = Field(default=())
    """Files to choose, tune and stop on."""
    test: Paths = Field(default=())
    """Files read once, at the end, for the figures that are shown."""

    @model_validator(mode="after")
    def _apart(self) -> FileData:
        nameless = [path for split in SPLITS for path in getattr(self, split) if not path.name]
        if nameless:
            raise ValueError(f"{nameless[0]} is a folder; name files")
        check_apart({split: getattr(self, split) for split in SPLITS}, "file")
        return self

    @abstractmethod
    def parse(self, file: Path, source: str) -> Iterator[Example]:
        """Read one file; examples get `source`.

        Raises
        ------
        DataError
            When it is missing or malformed, naming the line.
        """

    @abstractmethod
    def label_line(self, file: Path, label: str) -> int | None:
        """Find the first line, from 1, that bears `label`."""

    def grouped(
        self,
        file: Path,
        source: str,
        group: str | None = None,  # noqa: ARG002
    ) -> Iterator[tuple[Example, str]]:
        """Read one file; examples come with their value of the column `group`."""
        for example in self.parse(file, source):
            yield example, ""

    def files(self, split: Split) -> tuple[Path, ...]:
        """Give the paths of a split's files, `root` included.

        Raises
        ------
        DataError
            When the split names no file.
        """
        root = at_home(self.root)
        return tuple(root / path for path in self._paths(split))

    def named_files(self, split: Split) -> tuple[tuple[str, Path], ...]:
        """Give the files of a split with their paths as they are written."""
        written = map(str, self._paths(split))
        return tuple(zip(written, self.files(split), strict=True))

    def has_own(self, split: Split) -> bool:
        """Say whether a split has files of its own."""
        return bool(getattr(self, split))

    def offers(self, split: Split) -> bool:
        """Say whether a split has files, or is drawn from those of train."""
        return self.has_own("train" if self.is_drawn(split) else split)

    def own(self, split: Split, group: str | None = None) -> Iterator[tuple[Example, str]]:
        """Read the files of a split, one after the other."""
        for file, source in zip(self.files(split), sources(self._paths(split)), strict=True):
            empty = True
            for found in self.grouped(file, source, group):
                empty = False
                yield found
            if empty:
                raise DataError(f"holds no example; the {split} split needs some", file=file)

    def digest(self, split: Split) -> str:
        """SHA-256 over the files' contents, what they are called in results, and the options."""
        options = self.model_dump(mode="json", exclude={"root", "seen_test", "split", *SPLITS})
        found = hashlib.sha256(json_digest(options).encode())
        for file, source in zip(self.files(split), sources(self._paths(split)), strict=True):
            check_file(file)
            found.update(f"\n{source} {file_digest(file)}".encode())
        if self.split is not None and self.is_drawn(split):
            found.update(f"\n{split} {json_digest(self.split.model_dump())}".encode())
        return found.hexdigest()

    def _paths(self, split: Split) -> tuple[Path, ...]:
        """Give the paths that a split is read from: of one that is drawn those of train."""
        paths: tuple[Path, ...] = getattr(self, "train" if self.is_drawn(split) else split)
        if not paths:
            raise DataError(
                f"the {split} split is empty; list its files under data.{split}, or draw it from "
                "train by data.split"
            )
        return paths

    def locate(self, split: Split, label: str) -> tuple[Path | None, int | None]:
        """Find the file and line where `label` first stands in `split`."""
        for file in self.files(split):
            line = self.label_line(file, label)
            if line is not None:
                return file, line
        return None, None


def sources(paths: tuple[Path, ...]) -> tuple[str, ...]:
    """Give each file the part of its path that tells it from the others.

    ``hau/test.txt, pcm/test.txt`` are ``hau`` and ``pcm``; a name's ending such as ``_test`` is
    left out where what remains is still different; a file alone keeps what is not a split's name.
    """
    parts = [path.with_suffix("").parts for path in map(PurePath, paths)]
    short = [_without_split(part)[-1:] for part in parts]
    if len(parts) > 1:
        while all(len(part) > 1 for part in parts) and len({part[0] for part in parts}) == 1:
            parts = [part[1:] for part in parts]
        while all(len(part) > 1 for part in parts) and len({part[-1] for part in parts}) == 1:
            parts = [part[:-1] for part in parts]
        short = [_without_split(part) for part in parts]
    names = tuple("/".join(part) for part in short)
    if len(set(names)) == len(names):
        return names
    return tuple(path.as_posix() for path in paths)


def _without_split(parts: tuple[str, ...]) -> tuple[str, ...]:
    ends = "|".join(sorted(SPLIT_WORDS))
    kept = [re.sub(rf"(?<=.)[-_.]({ends})$", "", part) for part in parts if part not in SPLIT_WORDS]
    kept = [part for part in kept if part not in ("..", "/")]
    return tuple(kept) or parts[-1:]
