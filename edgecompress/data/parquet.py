"""Parquet files, read with pyarrow."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgecompress.data.tabular import TableData
from edgecompress.tables import Table, parquet_table


class ParquetData(TableData):
    """Parquet files; class numbers get the names that the file has for them."""

    format: Literal["parquet"] = "parquet"

    def table(self, file: Path) -> Table:
        """Open a file."""
        return parquet_table(file)
