"""Tab-separated columns under a header line, without quotes: the form of AfriSenti.

Quotation marks are characters like any other, as in those files: a column ends at a tab, a row at
the line's end. Tabs in a file with quotes are read by ``format: csv``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgecompress.data.tabular import TableData
from edgecompress.tables import Table, tsv_table


class TsvData(TableData):
    """TSV files with a header; other columns than those that are named are passed over."""

    format: Literal["tsv"] = "tsv"

    def table(self, file: Path) -> Table:
        """Open a file."""
        return tsv_table(file)
