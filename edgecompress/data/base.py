"""What a description of data is, and what all formats that lie in files have in common."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from edgecompress.errors import DataError
from edgecompress.reading import at_home
from edgecompress.textfiles import check_file
from edgecompress.texts import label_of, tags_of
from edgecompress.values import Example, file_digest, json_digest

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

SPLIT_WORDS = frozenset({"train", "dev", "valid", "validation", "val", "test", "eval"})


class DataConfig(BaseModel, ABC):
    """Where labelled examples come from; a recipe's ``data``."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    format: str
    """Which reader: the name of a file in `edgecompress.data`."""

    seen_test: Literal["refuse", "accept"] = "refuse"
    """What becomes of a test that mostly stands in train or validation, too: it is refused, or
    ``accept`` scores it all the same."""

    licence: ClassVar[str] = ""
    """What all data of this format is licensed under, where one licence is known."""

    @abstractmethod
    def read(self, split: Split) -> tuple[Example, ...]:
        """Read a split.

        Raises
        ------
        DataError
            When a file is missing, malformed or empty, or the split is empty.
        """

    @abstractmethod
    def files(self, split: Split) -> tuple[Path, ...]:
        """Give the files of a split, in order; none where the data is made, not read."""

    @abstractmethod
    def digest(self, split: Split) -> str:
        """SHA-256 over all that decides what `read` gives.

        Raises
        ------
        DataError
            When a file is missing or the split is empty.
        """

    def locate(self, split: Split, label: str) -> tuple[Path | None, int | None]:  # noqa: ARG002
        """Find the file and line where `label` first stands in `split`, where that is known."""
        return None, None


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | Path) else value


Paths = Annotated[
    tuple[Path, ...], BeforeValidator(_listed, json_schema_input_type=Path | tuple[Path, ...])
]


class FileData(DataConfig):
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
        seen: dict[Path, Split] = {}
        nameless = [path for split in SPLITS for path in getattr(self, split) if not path.name]
        if nameless:
            raise ValueError(f"{nameless[0]} is a folder; name files")
        for split in SPLITS:
            for path in getattr(self, split):
                before = seen.setdefault(path, split)
                if split == "test" and before != split:
                    raise ValueError(f"{path} is in {before} and in test; a test set stays unseen")
            if len(set(getattr(self, split))) != len(getattr(self, split)):
                raise ValueError(f"{split} names a file twice")
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

    def files(self, split: Split) -> tuple[Path, ...]:
        """Give the paths of a split's files, `root` included.

        Raises
        ------
        DataError
            When the split names no file.
        """
        paths: tuple[Path, ...] = getattr(self, split)
        if not paths:
            raise DataError(f"the {split} split is empty; list its files under data.{split}")
        root = at_home(self.root)
        return tuple(root / path for path in paths)

    def read(self, split: Split) -> tuple[Example, ...]:
        """Read the files of a split, one after the other."""
        files = self.files(split)
        result: list[Example] = []
        for file, source in zip(files, sources(getattr(self, split)), strict=True):
            count = len(result)
            result.extend(self.parse(file, source))
            if len(result) == count:
                raise DataError(f"holds no example; the {split} split needs some", file=file)
        return tuple(result)

    def digest(self, split: Split) -> str:
        """SHA-256 over the files' contents, what they are called in results, and the options."""
        options = self.model_dump(mode="json", exclude={"root", "seen_test", *SPLITS})
        found = hashlib.sha256(json_digest(options).encode())
        for file, source in zip(self.files(split), sources(getattr(self, split)), strict=True):
            check_file(file)
            found.update(f"\n{source} {file_digest(file)}".encode())
        return found.hexdigest()

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


def check_labels(
    config: DataConfig, splits: Mapping[Split, Sequence[Example]] | None = None
) -> tuple[str, ...]:
    """Check that validation and test hold only labels that train has, and give train's.

    Reads the splits, so that files that are missing or malformed are found as well.

    Parameters
    ----------
    splits : mapping, optional
        Splits that were read already; they are not read again.

    Raises
    ------
    DataError
        Naming the label and, where it is known, the file and line where it first stands.
    """
    have = splits or {}
    known = _labels(have["train"] if "train" in have else config.read("train"))
    for split in SPLITS[1:]:
        examples = have[split] if split in have else config.read(split)
        for label in sorted(_labels(examples) - known - {"O"}):
            file, line = config.locate(split, label)
            raise DataError(
                f"label {label!r} of the {split} split does not occur in train, so that no model "
                f"can learn it; train has {', '.join(sorted(known)[:20])}",
                file=file,
                line=line,
            )
    return tuple(sorted(known))


def _labels(examples: Sequence[Example]) -> set[str]:
    found = {tag for example in examples for tag in tags_of(example)}
    return found | {label_of(example) for example in examples if label_of(example)}
