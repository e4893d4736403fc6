"""A matrix as one self-contained page: no network, readable on a phone, light and dark."""

from __future__ import annotations

from dataclasses import dataclass

from jinja2 import Environment
from markupsafe import Markup

from edgecompress.report import plot
from edgecompress.report.html import environment
from edgecompress.report.matrix import plots
from edgecompress.report.matrix.markdown import heading
from edgecompress.report.matrix.plots import Drawn
from edgecompress.report.matrix.summary import Group, groups, mean_axis, means
from edgecompress.report.matrix.table import GroupTable, build, duration, state_words
from edgecompress.report.matrix.values import MatrixResult

SHAPES = {
    "circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲", "cross": "✚", "star": "★",
}  # fmt: skip
"""How the legend draws plotly's symbols."""


@dataclass(frozen=True, slots=True)
class Section:
    """A group as the page shows it; `first` is the number of its first plot."""

    group: Group
    heading: str
    anchor: str
    table: GroupTable
    drawn: tuple[Drawn, ...]
    first: int


def render_html(matrix: MatrixResult) -> str:
    """Draw `matrix` as one HTML page; whatever text it holds is escaped."""
    found = groups(matrix)
    shown = (*means(matrix, found), *found)
    order = plots.schemes(shown)
    sections: list[Section] = []
    count = 0
    for index, group in enumerate(shown):
        drawn = plots.draw(group, order)
        sections.append(
            Section(group, heading(group), f"group-{index}", build(group), drawn, count + 1)
        )
        count += len(drawn)
    figures = [Markup(one.figure) for part in sections for one in part.drawn]  # noqa: S704 - plotly escapes; names are escaped by us
    page = _environment().get_template("matrix.html.j2")
    return page.render(
        matrix=matrix,
        sections=sections,
        says=state_words(matrix),
        axis=mean_axis(matrix),
        kinds=plots.kinds(shown),
        schemes=[
            (SHAPES[plots.SYMBOLS[index % len(plots.SYMBOLS)]], scheme)
            for index, scheme in enumerate(order)
        ],
        bars=any(part.group.of > 1 for part in sections),
        figures=figures,
        script=Markup(plot.script()) if figures else "",  # noqa: S704 - plotly's own file
    )


def _environment() -> Environment:
    found = environment()
    found.filters["duration"] = duration
    return found
