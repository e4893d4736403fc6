"""Texts with a label in tab-separated columns under a header line: the form of AfriSenti.

Quotation marks are characters like any other, as in those files: a column ends at a tab, a row at
the line's end.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from edgecompress.data.base import FileData
from edgecompress.textfiles import tsv_rows
from edgecompress.texts import text_example
from edgecompress.values import Example


class TsvData(FileData):
    """TSV files with a header; other columns than the two named are passed over."""

    format: Literal["tsv"] = "tsv"
    text_column: str = "text"
    """Name of the column with the text."""
    label_column: str = "label"
    """Name of the column with its label."""

    def parse(self, file: Path, source: str) -> Iterator[Example]:
        """Read the rows of one file."""
        for _, text, label in self._rows(file):
            yield text_example(text=text, label=label, source=source)

    def label_line(self, file: Path, label: str) -> int | None:
        """Find the first row with the label `label`."""
        return next((number for number, _, found in self._rows(file) if found == label), None)

    def _rows(self, file: Path) -> Iterator[tuple[int, str, str]]:
        return tsv_rows(file, self.text_column, self.label_column)
