"""JSON lines, an object each, or one JSON list of objects."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from edgecompress.data.tabular import TableData
from edgecompress.tables import Table, json_table


class JsonlData(TableData):
    """Files of JSON lines; a file that begins with ``[`` is read as one list."""

    also_called: ClassVar[tuple[str, ...]] = ("json", "ndjson", "json-lines")

    format: Literal["jsonl"] = "jsonl"

    def table(self, file: Path) -> Table:
        """Open a file."""
        return json_table(file)
