"""A matrix on a terminal: the means (else each group) as one table, and what failed."""

from __future__ import annotations

from rich.console import Group as Parts
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from edgecompress.report import words
from edgecompress.report.matrix.markdown import heading
from edgecompress.report.matrix.summary import groups, means
from edgecompress.report.matrix.table import GroupTable, build, state_words
from edgecompress.report.matrix.values import MatrixResult


def render_terminal(matrix: MatrixResult) -> list[RenderableType]:
    """Give what to print: the state, a table of means where there are some, and the failures."""
    found = groups(matrix)
    parts: list[RenderableType] = [
        Text(f"\n{words.plain(matrix.name)}: {state_words(matrix)}", "bold")
    ]
    for group in means(matrix, found) or found:
        table = build(group)
        parts += [Text(f"\n{heading(group)}", "bold"), _table(table)]
        notes = [Text(f"{n} {text}", "dim") for n, text in enumerate(table.footnotes, 1)]
        parts += [Parts(*notes)] if notes else []
    for cell in matrix.of("failed"):
        parts.append(Text(f"{cell.name} failed: {words.plain(cell.reason)}"))
    return parts


def _table(found: GroupTable) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("Model", overflow="fold")
    table.add_column("Scheme")
    for column in found.columns:
        title = f"{column.title}, {column.unit}" if column.unit else column.title
        table.add_column(title, justify="right")
    for line in found.lines:
        cells = [f"{one.text}{words.superscript(one.notes)}" for one in line.cells]
        table.add_row(words.plain(line.model), line.scheme, *map(words.plain, cells))
    return table
