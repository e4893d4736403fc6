"""Texts with a label in tab-separated columns under a header line: the form of AfriSenti.

Quotation marks are characters like any other, as in those files: a column ends at a tab, a row at
the line's end.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from edgecompress.data.base import FileData, read_lines
from edgecompress.errors import DataError
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
            yield Example(text=text, label=label, source=source)

    def label_line(self, file: Path, label: str) -> int | None:
        """Find the first row with the label `label`."""
        return next((number for number, _, found in self._rows(file) if found == label), None)

    def _rows(self, file: Path) -> Iterator[tuple[int, str, str]]:
        lines = read_lines(file)
        header = [name.strip() for name in lines[0].split("\t")]
        text_at = self._column(file, header, "text_column")
        label_at = self._column(file, header, "label_column")
        for number, line in enumerate(lines[1:], start=2):
            if not line.strip():
                continue
            fields = line.split("\t")
            if len(fields) != len(header):
                raise DataError(
                    f"expected {len(header)} columns ({', '.join(header)}), found {len(fields)}",
                    file=file,
                    line=number,
                )
            text, label = fields[text_at].strip(), fields[label_at].strip()
            for name, value in ((self.text_column, text), (self.label_column, label)):
                if not value:
                    raise DataError(f"the column {name} is empty", file=file, line=number)
            yield number, text, label

    def _column(self, file: Path, header: list[str], field: str) -> int:
        name: str = getattr(self, field)
        if name in header:
            return header.index(name)
        near = difflib.get_close_matches(name, header, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DataError(
            f"there is no column {name!r} among {', '.join(map(repr, header))}{hint} "
            f"(set data.{field})",
            file=file,
            line=1,
        )
