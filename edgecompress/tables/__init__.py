"""Files with named columns, one reader for each format, told by the file's suffix.

Recipes read them by `edgecompress.data`, and so do calibration, questions to a bundle and the
comparison of two; a device reads CSV and JSON lines with Python's own modules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from edgecompress.errors import DataError
from edgecompress.tables.base import Record, Table
from edgecompress.tables.columns import Finish, Need, Taken, Wanted, examples, take_columns
from edgecompress.tables.delimited import csv_table, tab_table, tsv_table
from edgecompress.tables.jsonfile import json_table
from edgecompress.tables.parquet import parquet_table

__all__ = [
    "FORMATS",
    "SUFFIXES",
    "Finish",
    "Need",
    "Record",
    "Table",
    "Taken",
    "Wanted",
    "csv_table",
    "examples",
    "format_of",
    "json_table",
    "open_table",
    "parquet_table",
    "take_columns",
    "tsv_table",
]

FORMATS: Mapping[str, Callable[[Path], Table]] = {
    "csv": csv_table,
    "tsv": tsv_table,
    "jsonl": json_table,
    "parquet": parquet_table,
}
"""Formats by the names that recipes give them."""

SUFFIXES: Mapping[str, Callable[[Path], Table]] = {
    ".csv": csv_table,
    ".tsv": tab_table,
    ".jsonl": json_table,
    ".ndjson": json_table,
    ".json": json_table,
    ".parquet": parquet_table,
}
"""What opens a file of which nothing but its name is known."""


def format_of(file: Path) -> str | None:
    """Give the format that a recipe would name for a file with this suffix; None for others."""
    opener = SUFFIXES.get(file.suffix.lower())
    named = {opener: name for name, opener in FORMATS.items()} | {tab_table: "tsv"}
    return None if opener is None else named[opener]


def open_table(file: Path, form: str | None = None) -> Table:
    """Open a file with columns, of the format `form` or of what its suffix says.

    Raises
    ------
    DataError
        When it cannot be read, or its suffix says nothing.
    """
    opener = FORMATS.get(form) if form else SUFFIXES.get(file.suffix.lower())
    if opener is None:
        known = ", ".join(SUFFIXES)
        raise DataError(f"its name does not say what it is; call it {known}", file=file)
    return opener(file)
