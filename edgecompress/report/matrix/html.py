"""A matrix as one self-contained page: no network, readable on a phone, light and dark."""

from __future__ import annotations

from dataclasses import dataclass

from jinja2 import Environment

from edgecompress.report import words
from edgecompress.report.html import environment
from edgecompress.report.matrix import plots
from edgecompress.report.matrix.markdown import heading
from edgecompress.report.matrix.plots import Drawn
from edgecompress.report.matrix.summary import Group, groups, mean_axis, means
from edgecompress.report.matrix.table import GroupTable, build, state_words
from edgecompress.report.matrix.values import MatrixResult

SHAPES = {
    "circle": "●", "square": "■", "diamond": "◆", "triangle": "▲", "cross": "✚", "star": "★",
}  # fmt: skip
"""How the legend draws the shapes of points."""


@dataclass(frozen=True, slots=True)
class Section:
    """A group as the page shows it."""

    group: Group
    heading: str
    anchor: str
    table: GroupTable
    drawn: tuple[Drawn, ...]


def render_html(matrix: MatrixResult) -> str:
    """Draw `matrix` as one HTML page; whatever text it holds is escaped."""
    found = groups(matrix)
    shown = (*means(matrix, found), *found)
    order = plots.schemes(shown)
    sections = [
        Section(group, heading(group), f"group-{index}", build(group), plots.draw(group, order))
        for index, group in enumerate(shown)
    ]
    page = _environment().get_template("matrix.html.j2")
    return page.render(
        matrix=matrix,
        sections=sections,
        says=state_words(matrix),
        axis=mean_axis(matrix),
        kinds=plots.kinds(shown),
        schemes=[
            (SHAPES[plots.SHAPES[index % len(plots.SHAPES)]], scheme)
            for index, scheme in enumerate(order)
        ],
        bars=any(part.group.of > 1 for part in sections),
        figures=any(part.drawn for part in sections),
    )


def _environment() -> Environment:
    found = environment()
    found.filters["duration"] = words.duration
    return found
