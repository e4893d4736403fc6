"""The plots of a group: accuracy against sparsity, against size and against the download.

Colours say what was done to the weights, symbols and dashes how they are quantized; bars reach
from the smallest to the largest of the repetitions. Colours of axes and text come from the page's
style sheet.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgecompress.report import words
from edgecompress.report.matrix.summary import AFTER, BEFORE, SCORE, Group, Line, Spread
from edgecompress.report.plot import LAYOUT, Axis, scale, scaled

DENSE = "as fine-tuned"
KINDS = {DENSE: "#12a37f", BEFORE: "#3d82d6", AFTER: "#d07a1e", "made smaller": "#9a63c9"}
"""Colours, legible on both themes, by what was done to the weights."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
DASHES = ("solid", "4px,4px", "1px,4px", "8px,3px,2px,3px")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure in plotly's JSON, safe to stand in a script, and what it shows."""

    title: str
    figure: str


def schemes(groups: Sequence[Group]) -> tuple[str, ...]:
    """Give all schemes in the order of the recipe, fp32 first."""
    found = dict.fromkeys(
        line.scheme for group in groups for line in group.lines if line.kind == "candidate"
    )
    return tuple(sorted(found, key=lambda one: one != "fp32"))


def kinds(groups: Sequence[Group]) -> dict[str, str]:
    """Give the colour of every kind of model that there is."""
    found = {_kind(line) for group in groups for line in group.lines if line.kind == "candidate"}
    return {kind: colour for kind, colour in KINDS.items() if kind in found}


def draw(group: Group, order: Sequence[str]) -> tuple[Drawn, ...]:
    """Draw a group; `order` are the schemes of the whole page, so that symbols stay the same."""
    points = [line for line in group.lines if line.kind == "candidate" and _score(line)]
    if len(points) < 2:
        return ()
    drawn = []
    score = words.title(group.primary or "score")
    if sum(line.sparsity is not None for line in points) > 1:
        drawn.append(Drawn(f"{score} against sparsity", _sparsity(group, points, order)))
    for metric, title in (("size", "Size, MB"), ("download_size", "Compressed download, MB")):
        mine = [line for line in points if metric in line.readings]
        if len(mine) > 1:
            axis = Axis(metric, title, "bytes", None)
            name = f"{score} against {'size' if metric == 'size' else 'the compressed download'}"
            drawn.append(Drawn(name, _costs(group, mine, axis, order)))
    return tuple(drawn)


def _kind(line: Line) -> str:
    return line.series if line.series in KINDS else "made smaller"


def _score(line: Line) -> Spread | None:
    return line.readings.get(SCORE)


def _points(value: float) -> float:
    return scaled(value, "fraction")


def _bars(found: Sequence[Spread], colour: str, group: Group) -> dict[str, object]:
    """Draw the range of the repetitions; languages are none, so that a mean has no bars."""
    up = [_points(one.high - one.value) for one in found]
    down = [_points(one.value - one.low) for one in found]
    shown = not group.mean and (any(up) or any(down))
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "width": 3,
            "thickness": 1.2, "color": colour, "visible": shown}  # fmt: skip


def _ends(one: Spread, group: Group) -> tuple[float, ...]:
    """Give what of a value must fit into the plot."""
    return (one.value,) if group.mean else (one.low, one.high)


def _symbol(scheme: str, order: Sequence[str]) -> str:
    return SYMBOLS[order.index(scheme) % len(SYMBOLS)]


def _sparsity(group: Group, points: Sequence[Line], order: Sequence[str]) -> str:
    """Draw a line per way of pruning and scheme; the model as it is stands at 0."""
    import plotly.graph_objects as go

    figure = go.Figure()
    series = dict.fromkeys(
        (line.series, line.scheme) for line in points if line.sparsity is not None
    )
    values = []
    for name, scheme in series:
        mine = [
            line
            for line in points
            if line.scheme == scheme
            and ((line.series == name and line.sparsity is not None) or line.series == DENSE)
        ]
        mine.sort(key=lambda line: line.sparsity or 0.0)
        found = [one for line in mine if (one := _score(line))]
        values += [end for one in found for end in _ends(one, group)]
        colour = KINDS.get(name, KINDS["made smaller"])
        figure.add_scatter(
            x=[100 * (line.sparsity or 0.0) for line in mine],
            y=[_points(one.value) for one in found],
            error_y=_bars(found, colour, group),
            mode="lines+markers",
            line={
                "color": colour,
                "width": 2,
                "dash": DASHES[order.index(scheme) % len(DASHES)],
            },
            marker={"symbol": _symbol(scheme, order), "size": 8, "color": colour},
            hovertext=[_hover(line, group) for line in mine],
            hovertemplate="%{hovertext}<extra></extra>",
            cliponaxis=False,
        )
    title = _score_title(group)
    horizontal = {
        "title": {"text": "Sparsity, % of the weights", "standoff": 10},
        "fixedrange": True,
        "zeroline": False,
        "range": [-4, 104],
        "automargin": True,
    }
    return _finish(figure, group, horizontal, values, title)


def _costs(group: Group, points: Sequence[Line], axis: Axis, order: Sequence[str]) -> str:
    """Draw every model as a point: accuracy against what it costs."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for kind in KINDS:
        mine = [line for line in points if _kind(line) == kind]
        found = [one for line in mine if (one := _score(line))]
        if not mine:
            continue
        figure.add_scatter(
            x=[scaled(line.readings[axis.metric].value, axis.unit) for line in mine],
            y=[_points(one.value) for one in found],
            error_y=_bars(found, KINDS[kind], group),
            mode="markers",
            marker={
                "symbol": [_symbol(line.scheme, order) for line in mine],
                "size": 10,
                "color": KINDS[kind],
                "opacity": 0.85,
            },
            hovertext=[_hover(line, group) for line in mine],
            hovertemplate="%{hovertext}<extra></extra>",
            cliponaxis=False,
        )
    values = [end for line in points if (one := _score(line)) for end in _ends(one, group)]
    horizontal = scale([line.readings[axis.metric].value for line in points], axis)
    return _finish(figure, group, horizontal, values, _score_title(group))


def _finish(
    figure: object,
    group: Group,
    horizontal: dict[str, object],
    values: Sequence[float],
    title: str,
) -> str:
    """Add the teacher's accuracy and the layout."""
    import plotly.io as pio

    teacher = group.line("teacher")
    base = _score(teacher) if teacher else None
    shown = [value for value in values if math.isfinite(value)]
    if base:
        shown.append(base.value)
        dashed = {"width": 1.5, "dash": "5px,5px", "color": "#8b95a1"}
        figure.add_hline(y=_points(base.value), line=dashed)  # type: ignore[attr-defined]
    vertical = scale(shown, Axis(SCORE, title, "fraction", None))
    figure.update_layout(**LAYOUT, xaxis=horizontal, yaxis=vertical)  # type: ignore[attr-defined]
    return str(pio.to_json(figure))


def _score_title(group: Group) -> str:
    where = f" on {group.split}" if group.split else ""
    return html.escape(f"{words.title(group.primary or 'score')}{where}, points")


def _hover(line: Line, group: Group) -> str:
    """Write what a pointer sees; plotly reads HTML here, so names are escaped."""
    lines = [f"<b>{html.escape(line.model)}, {html.escape(line.scheme)}</b>"]
    for metric in (SCORE, "size", "download_size", "speedup"):
        found = line.readings.get(metric)
        if found is None:
            continue
        name = words.title(group.primary or "score") if metric == SCORE else words.title(metric)
        text = f"{name}: {words.with_unit(found.value, found.unit)}"
        if found.low < found.high:
            text += f" ({words.span((found.low, found.high), found.unit)})"
        lines.append(html.escape(text))
        if found.invalid:
            lines.append(f"not valid: {html.escape(words.plain(found.invalid))}")
    return "<br>".join(lines)
