"""The table as a CSV file, for a spreadsheet; pure."""

from __future__ import annotations

import csv
import io
from urllib.parse import quote

from edgecompress.report.table import Cell, Table

DANGEROUS = ("=", "+", "-", "@", "\t", "\r")
"""How a text begins that a spreadsheet would take for a formula."""


def table_csv(table: Table) -> str:
    """Write a table as CSV: a line per model, numbers with a point, intervals beside them."""
    held = [
        (index, any(line.cells[index].detail for line in table.lines))
        for index in range(len(table.columns))
    ]
    heads = ["model", "kind"]
    for index, detailed in held:
        column = table.columns[index]
        title = f"{column.title}, {column.unit}" if column.unit else column.title
        heads.append(title)
        if detailed:
            heads.append(f"{title}: {'reason' if index == 0 else '95 % interval'}")
    heads.append("not valid")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(_safe, heads))
    for line in table.lines:
        cells = [_safe(line.full_name), line.row.kind]
        for index, detailed in held:
            cell = line.cells[index]
            cells.append(_number(cell))
            if detailed:
                cells.append(_safe(cell.detail.replace("−", "-")))
        bad = [
            f"{table.columns[index].title}: {table.footnotes[number - 1]}"
            for index, cell in enumerate(line.cells)
            if cell.invalid
            for number in cell.notes
        ]
        writer.writerow([*cells, _safe("; ".join(bad))])
    return out.getvalue()


def data_link(text: str) -> str:
    """Give the address that holds a CSV file itself; a byte order mark tells Excel of UTF-8."""
    return "data:text/csv;charset=utf-8," + quote("\ufeff" + text)


def _number(cell: Cell) -> str:
    """Write a number as a spreadsheet reads it; what is missing stays empty."""
    if cell.missing:
        return ""
    text = cell.text.replace("−", "-").replace(",", "").removeprefix("+")
    try:
        float(text)
    except ValueError:
        return _safe(cell.text)
    return text


def _safe(text: str) -> str:
    """Keep a spreadsheet from taking a text for a formula."""
    return f"'{text}" if text.startswith(DANGEROUS) else text
