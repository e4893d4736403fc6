"""CSV files with a header: quotes, separators and encodings as spreadsheets write them."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from edgecompress.data.tabular import TableData
from edgecompress.tables import Table, csv_table


class CsvData(TableData):
    """CSV files; a field in quotes may hold separators and line breaks."""

    format: Literal["csv"] = "csv"
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    """What stands between two fields; left out: the comma, semicolon, tab or bar that divides the
    header into most columns."""
    encoding: str | None = None
    """Such as `cp1252`; left out: what the file's byte order mark says, or UTF-8."""

    @field_validator("delimiter")
    @classmethod
    def _divides(cls, value: str | None) -> str | None:
        if value is not None and value in '\r\n"':
            raise ValueError("neither a quotation mark nor a line's end divides fields")
        return value

    @field_validator("encoding")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                "".encode(value)
                codecs.lookup(value)
            except (LookupError, ValueError):
                raise ValueError("Python knows no encoding of texts that is called so") from None
        return value

    def table(self, file: Path) -> Table:
        """Open a file."""
        return csv_table(file, self.delimiter, self.encoding)
