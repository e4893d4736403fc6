"""Formats whose records have named columns: what the file calls what the task needs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr

from edgecompress.data.base import SPLITS, DataConfig, Split
from edgecompress.data.drawing import DrawnData
from edgecompress.data.files import FileData
from edgecompress.examples import inputs_json
from edgecompress.tables import Table, Taken, Wanted, examples, take_columns
from edgecompress.tables.columns import check_column
from edgecompress.values import Example, json_digest


class ColumnsData(DrawnData):
    """Data in columns."""

    columns: dict[str, str] = Field(default_factory=dict)
    """What the file calls the things that the task needs: `{text: headline, label: category}`, or
    `words` and `tags`. What is left out is found where exactly one column has a common name."""
    classes: tuple[str, ...] = ()
    """Names of the classes in the order of their numbers, where labels or tags are numbers."""

    labelled_by: Literal["model"] | None = None
    """`model`: nobody has labelled these examples, and the labels are the model's own answers."""

    _wanted: Wanted = PrivateAttr(default_factory=Wanted)

    def __hash__(self) -> int:
        """Hash what it says, as of any frozen value; a mapping has no hash of its own."""
        return hash(self.model_dump_json())

    def for_task(self, wanted: Wanted) -> DataConfig:
        """Give the same description for a task, which says what its records must hold."""
        found = self.model_copy()
        found._wanted = wanted
        return found

    def taken(self, table: Table) -> Taken:
        """Find the columns that are read.

        Raises
        ------
        DataError
            When one is not there, or several could be meant.
        """
        return take_columns(table, self.columns, self._wanted)

    def examples_of(
        self, table: Table, source: str, group: str | None = None
    ) -> Iterator[tuple[int, Example, str]]:
        """Give the number, the example and the group of each record."""
        also = () if group is None else (check_column(table, group, "set data.split.group"),)
        found = examples(table, self.taken(table), source, self.classes, also)
        for number, example, values in found:
            yield number, example, "" if group is None else str(values[group]).strip()

    @abstractmethod
    def tables(self, split: Split) -> Iterator[Table]:
        """Open what a split is read from."""

    def facts(self) -> dict[str, str]:
        """Say which columns are read, and how splits are drawn."""
        said: dict[str, None] = {}
        for split in SPLITS:
            for table in self.tables(split) if self.has_own(split) else ():
                roles = self.taken(table).by_role
                said[", ".join(f"{role} from {name!r}" for role, name in roles.items())] = None
        own = "the model's own answers, so that every accuracy is agreement with the model"
        by = {"labels": own} if self.labelled_by == "model" else {}
        return {"columns": "; ".join(said), **by, **super().facts()}


class TableData(ColumnsData, FileData):
    """Files of records with named columns, some for each split."""

    @abstractmethod
    def table(self, file: Path) -> Table:
        """Open a file.

        Raises
        ------
        DataError
            When it is missing or malformed.
        """

    def digest(self, split: Split) -> str:
        """SHA-256 over the files, the options, and what the files name, such as images."""
        found = super().digest(split)
        if not any(opened for _, _, opened in self._wanted.fits.values()):
            return found
        return json_digest([found, [inputs_json(one) for one in self.read(split)]])

    def tables(self, split: Split) -> Iterator[Table]:
        """Open the files of a split."""
        return map(self.table, self.files(split))

    def parse(self, file: Path, source: str) -> Iterator[Example]:
        """Read the records of one file."""
        for _, example, _ in self.examples_of(self.table(file), source):
            yield example

    def grouped(
        self, file: Path, source: str, group: str | None = None
    ) -> Iterator[tuple[Example, str]]:
        """Read the records of one file, with their groups."""
        for _, example, name in self.examples_of(self.table(file), source, group):
            yield example, name

    def label_line(self, file: Path, label: str) -> int | None:
        """Find the first line with a label or a tag; None where records stand on no lines."""
        table = self.table(file)
        found: Any = (
            number
            for number, example, _ in self.examples_of(table, "")
            if label == example.target
            or (isinstance(example.target, tuple) and label in example.target)
        )
        return next(found, None) if table.lines else None
