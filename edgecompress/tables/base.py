"""A file of records with named columns, whatever its format; standard library only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecompress.errors import DataError

Record = tuple[int, Mapping[str, Any]]
"""Where a record stands (a line or a row, from 1), and its values by column."""


@dataclass(frozen=True, slots=True)
class Table:
    """Records with named columns; what they hold is read when it is asked for.

    Attributes
    ----------
    file : Path
    columns : tuple of str
        Their names in order, as the file writes them.
    read : callable
        Gives the records of some columns, in order.
    lines : bool
        Whether a record's number is a line of the file, which errors name so.
    classes : mapping of str to tuple of str
        The names of a column's class numbers, where the file has them.
    spaced : bool
        Words stand in one cell with blanks between them, as the format has no lists.
    """

    file: Path
    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], Iterator[Record]]
    lines: bool = True
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    spaced: bool = False

    def error(self, message: str, number: int) -> DataError:
        """Make the error of a record."""
        if self.lines:
            return DataError(message, file=self.file, line=number)
        return DataError(f"row {number}: {message}", file=self.file)
