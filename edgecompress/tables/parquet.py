"""Records in Parquet, read with pyarrow a batch at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgecompress.errors import MissingExtraError
from edgecompress.reading import open_regular, reading
from edgecompress.tables.base import Record, Table
from edgecompress.textfiles import check_file

BATCH = 1024  # rows that are in memory at a time
BROKEN = "cannot be read as Parquet"


def parquet_table(file: Path) -> Table:
    """Open a Parquet file.

    Raises
    ------
    DataError
        When the file is missing, empty or damaged.
    MissingExtraError
        Without pyarrow.
    """
    check_file(file)
    pyarrow, parquet = _pyarrow()
    faults = (pyarrow.ArrowException,)
    with reading(file, BROKEN, faults), open_regular(file) as stream:
        schema = parquet.ParquetFile(stream).schema_arrow

    def read(wanted: Sequence[str]) -> Iterator[Record]:
        number = 0
        with reading(file, BROKEN, faults), open_regular(file) as stream:
            columns = list(wanted) or schema.names
            opened = parquet.ParquetFile(stream)
            for batch in opened.iter_batches(BATCH, columns=columns, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row

    columns = tuple(schema.names)
    return Table(file, columns, read, lines=False, classes=class_names(schema.metadata))


def class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """Find the names of class numbers that Hugging Face's datasets leaves in a schema."""
    try:
        described = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return dict(_named(described))
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _named(features: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, feature in features.items():
        inner = feature
        while isinstance(inner, dict) and "names" not in inner and "feature" in inner:
            inner = inner["feature"]
        inner = inner[0] if isinstance(inner, list) and inner else inner
        names = inner.get("names") if isinstance(inner, dict) else None
        if isinstance(names, list):
            yield name, tuple(map(str, names))


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "data") from None
    return pyarrow, pyarrow.parquet
