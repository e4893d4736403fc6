"""Folders of Hugging Face's datasets: what `save_to_disk` wrote, or files as the hub has them.

Read with the library of that name, so that every form of it is read as its makers mean it; no code
of a data set is run (the library has none since its fourth edition). A data set of the hub is
brought to this machine first, only where a recipe says `hub`, and then read like any other folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from edgecompress.data.base import SPLITS, Split
from edgecompress.data.tabular import ColumnsData
from edgecompress.errors import DataError, MissingExtraError
from edgecompress.hub import data_set_folder
from edgecompress.reading import PARSER_FAULTS, at_home, reading
from edgecompress.tables import Table
from edgecompress.tables.base import Record
from edgecompress.values import Example, file_digest, json_digest

NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
"""What splits are commonly called; the first that is there is taken."""
SAVED = ("dataset_dict.json", "dataset_info.json", "state.json")
"""Files that `save_to_disk` writes, and nobody else."""


class DatasetsData(ColumnsData):
    """A data set in a folder, or of the hub."""

    also_called: ClassVar[tuple[str, ...]] = ("huggingface", "hf", "arrow")

    format: Literal["datasets"] = "datasets"
    root: Path | None = None
    """Its folder."""
    hub: str | None = None
    """Its id on the hub, ORG/NAME, instead of a folder; it is fetched into the hub's cache."""
    revision: str | None = None
    """Of `hub`: a commit, branch or tag; give a commit to read the same data always."""
    name: str | None = None
    """Its configuration, where it has several."""
    train: str | None = Field(default=None, min_length=1)
    """What it calls its training split; left out: `train`."""
    validation: str | None = Field(default=None, min_length=1)
    """What it calls its validation split; left out: `validation`, `valid`, `val` or `dev`."""
    test: str | None = Field(default=None, min_length=1)
    """What it calls its test split; left out: `test`."""

    @model_validator(mode="after")
    def _one_place(self) -> DatasetsData:
        if (self.root is None) == (self.hub is None):
            raise ValueError("give root, a folder, or hub, an id of the hub")
        if self.revision is not None and self.hub is None:
            raise ValueError("only a data set of the hub has revisions; leave it out")
        named = [getattr(self, split) for split in SPLITS if getattr(self, split)]
        if self.test is not None and named.count(self.test) > 1:
            raise ValueError(f"{self.test} is in test and in another split; a test stays unseen")
        return self

    @property
    def folder(self) -> Path:
        """Where it lies on this machine; one of the hub is fetched.

        Raises
        ------
        DataError
            When there is no such folder, or the hub cannot be reached.
        """
        if self.hub is not None:
            return data_set_folder(self.hub, self.revision)
        folder = at_home(self.root or "")
        if not folder.is_dir():
            raise DataError(
                "there is no such folder; give the folder of a data set (data.root), or the id of "
                "one of the hub (data.hub)",
                file=folder,
            )
        return folder

    def has_own(self, split: Split) -> bool:
        """Say whether a split is read and not drawn."""
        drawn = self.split is not None and split != "train" and self.is_drawn(split)
        return getattr(self, split) is not None or not drawn

    def own(self, split: Split, group: str | None = None) -> Iterator[tuple[Example, str]]:
        """Read the records of a split."""
        empty = True
        for table in self.tables(split):
            for _, example, name in self.examples_of(table, self.name or "", group):
                empty = False
                yield example, name
        if empty:
            raise DataError(f"the {split} split holds no example", file=self.folder)

    def tables(self, split: Split) -> Iterator[Table]:
        """Open a split."""
        yield open_split(self.folder, self.name, split, getattr(self, split))

    def files(self, split: Split) -> tuple[Path, ...]:  # noqa: ARG002 - which is whose, it knows
        """Give all files of the data set."""
        folder = self.folder
        found = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return tuple(path for path in found if _counts(path.relative_to(folder)))

    def named_files(self, split: Split) -> tuple[tuple[str, Path], ...]:
        """Give all files with their paths in the folder."""
        folder = self.folder
        return tuple((path.relative_to(folder).as_posix(), path) for path in self.files(split))

    def digest(self, split: Split) -> str:
        """SHA-256 over all files of the data set, and the options."""
        left_out = {"root", "hub", "revision", "seen_test", "split"}
        found = hashlib.sha256(f"{split} {json_digest(self.model_dump(exclude=left_out))}".encode())
        for name, file in self.named_files(split):
            found.update(f"\n{name} {file_digest(file)}".encode())
        if self.split is not None and self.is_drawn(split):
            found.update(f"\n{json_digest(self.split.model_dump())}".encode())
        return found.hexdigest()


def _counts(path: Path) -> bool:
    """Leave out what the hub's cache and other programs hide."""
    return not any(part.startswith(".") for part in path.parts)


def open_split(folder: Path, name: str | None, split: Split, called: str | None) -> Table:
    """Open a split of a data set in a folder.

    Raises
    ------
    DataError
        When the folder is no data set, or has no such split.
    MissingExtraError
        Without the library.
    """
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("datasets", "data") from None
    with reading(folder, "cannot be read as a data set", (*PARSER_FAULTS, Exception)):
        if any((folder / name).is_file() for name in SAVED):
            found: Any = datasets.load_from_disk(str(folder))
        else:
            # Streaming, as nothing of it must be copied into a cache of that library.
            found = datasets.load_dataset(str(folder), name, streaming=True)
        splits = found if isinstance(found, dict) else {"train": found}
        wanted = (called,) if called else NAMES[split]
        own = next((one for one in wanted if one in splits), None)
        if own is None:
            known = ", ".join(map(str, splits))
            raise DataError(
                f"the data set has no split {wanted[0]!r} but {known}; name it (data.{split}), or "
                "draw it from train (data.split)",
                file=folder,
            )
        chosen = _undecoded(splits[own])
        # Of CSV and JSON nothing is known before the first record.
        features = chosen.features or dict.fromkeys(next(iter(chosen), {}))
        classes = {column: _class_names(feature) for column, feature in features.items()}

    def read(wanted: Sequence[str]) -> Iterator[Record]:
        with reading(folder, "cannot be read as a data set", (*PARSER_FAULTS, Exception)):
            yield from enumerate(chosen.select_columns(list(wanted)), start=1)

    named = {column: names for column, names in classes.items() if names}
    return Table(folder, tuple(features), read, lines=False, classes=named)


def _undecoded(split: Any) -> Any:
    """Leave images and sounds as the files that they are, which processors read."""
    for column, feature in (split.features or {}).items():
        if getattr(feature, "decode", None) is True:
            split = split.cast_column(column, type(feature)(decode=False))
    return split


def _class_names(feature: Any) -> tuple[str, ...]:
    """Give the names of a feature's class numbers, or of those in its lists."""
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", feature)
    return tuple(getattr(inner, "names", None) or ())
