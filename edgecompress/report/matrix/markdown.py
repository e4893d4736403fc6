"""A matrix as Markdown: the means, then a table per group, then what failed."""

from __future__ import annotations

from edgecompress.report.markdown import cell_text, code, escape, footnote_lines
from edgecompress.report.matrix.summary import Group, groups, means
from edgecompress.report.matrix.table import GroupTable, build, state_words
from edgecompress.report.matrix.values import MatrixResult


def render_markdown(matrix: MatrixResult) -> str:
    """Write the state, every table and every failure; text of the results is escaped."""
    found = groups(matrix)
    parts = [f"# {escape(matrix.name)}", f"{escape(state_words(matrix))}."]
    for group in (*means(matrix, found), *found):
        table = build(group)
        parts += [f"## {escape(heading(group))}", _table(table), *footnote_lines(table.footnotes)]
    broken = [f"- {code(cell.name)}: {escape(cell.reason or '')}" for cell in matrix.of("failed")]
    if broken:
        parts += ["## Cells that failed", "\n".join(broken)]
    if matrix.command:
        parts.append(f"Made by {code(matrix.command)}")
    return "\n\n".join(parts) + "\n"


def heading(group: Group) -> str:
    """Name a group and what its figures are."""
    if group.mean:
        return f"{group.name[:1].upper()}{group.name[1:]}"
    return f"{group.name}, median of {group.of} seeds" if group.of > 1 else group.name


def _table(table: GroupTable) -> str:
    heads = [f"{one.title}, {one.unit}" if one.unit else one.title for one in table.columns]
    lines = [
        "| Model | Scheme | " + " | ".join(map(escape, heads)) + " |",
        "|:--|:--|" + "--:|" * len(heads),
    ]
    for line in table.lines:
        cells = [cell_text(cell) for cell in line.cells]
        names = [escape(line.model), escape(line.scheme)]
        lines.append("| " + " | ".join([*names, *cells]) + " |")
    return "\n".join(lines)
