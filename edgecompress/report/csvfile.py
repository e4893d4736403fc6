"""A table as a CSV file, for a spreadsheet; pure."""

from __future__ import annotations

import csv
import io

from edgecompress.report.table import Cell, Table

DANGEROUS = ("=", "+", "-", "@", "\t", "\r")
"""How a text begins that a spreadsheet would take for a formula."""


def table_csv(table: Table) -> str:
    """Write a table as CSV: a line per row, numbers with a point, intervals beside them."""
    held = [
        (index, any(line.cells[index].detail for line in table.lines))
        for index in range(len(table.columns))
    ]
    heads = [table.heading.lower(), "kind"]
    for index, detailed in held:
        column = table.columns[index]
        heads.append(column.heading)
        if detailed:
            what = "reason" if column.kind == "state" else "95 % interval"
            heads.append(f"{column.heading}: {what}")
    heads.append("not valid")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(_safe, heads))
    for kind, line in ((part.key, line) for part in table.parts for line in part.lines):
        cells = [_safe(line.full_name or line.name), kind]
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
