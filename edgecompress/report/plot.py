"""The Pareto plot: accuracy against size and against latency, drawn by plotly.

Points carry the keys of the table; colours of axes and text come from the page's style sheet, so
that one figure serves the light and the dark theme.
"""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import Any

from edgecompress.report import words
from edgecompress.report.facts import Facts, scored
from edgecompress.report.table import Line, Table
from edgecompress.values import Limit, Measurement, RunResult, find

GROUPS = {
    "winner": ("chosen", "#12a37f", "diamond", 17),
    "front": ("on the Pareto front", "#3d82d6", "circle", 12),
    "other": ("other candidate", "#8b95a1", "circle-open", 11),
    "reference": ("reference", "#b9822f", "square", 11),
}
"""Name, colour (legible on both themes), symbol and size (px) of each kind of point."""


LAYOUT: dict[str, object] = {
    "template": None,
    "height": 360,
    "margin": {"l": 58, "r": 18, "t": 18, "b": 52},
    "showlegend": False,
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {
        "family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
        "size": 13,
    },
    "hoverlabel": {
        "bgcolor": "#20262c",
        "bordercolor": "#20262c",
        "font": {"color": "#f2f4f6"},
    },
    "dragmode": False,
}
"""What all figures share, apart from their axes."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A quantity to plot: its title, unit and the budget's bound on it."""

    metric: str
    title: str
    unit: str
    bound: float | None


@dataclass(frozen=True, slots=True)
class _Point:
    line: Line
    x: Measurement
    y: Measurement


def draw(result: RunResult, facts: Facts, table: Table) -> tuple[str, ...]:
    """Draw the panels as figures in plotly's JSON, safe to stand in a script of a page.

    Two panels where accuracy was measured (against size, against latency), else one (latency
    against size); none where fewer than two rows have both values.
    """
    split = "validation" if "validation" in facts.splits else facts.split
    size = Axis("size", "Size, MB", "bytes", _bound(result, "size", facts))
    title = f"Latency p50{html.escape(facts.where)}, ms"  # plotly reads HTML in titles too
    latency = Axis("latency_p50", title, "ms", _bound(result, "latency_p50", facts))
    pairs = [(size, latency)]
    if facts.primary is not None:
        accuracy = _accuracy_axis(result, facts, split)
        pairs = [(size, accuracy), (latency, accuracy)]
    drawn = []
    for x, y in pairs:
        points = [
            _Point(line, mine, value)
            for line in table.lines
            if (mine := _value(line, x, facts, split)) is not None
            and (value := _value(line, y, facts, split)) is not None
        ]
        if len(points) >= 2:
            drawn.append(_figure(points, x, y))
    return tuple(drawn)


def script() -> str:
    """Give plotly's own script, whole, to stand inside the page."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _accuracy_axis(result: RunResult, facts: Facts, split: str | None) -> Axis:
    metric = facts.primary or ""
    bound = None
    limit = _limit(result, metric, facts)
    teacher = scored(facts.teacher, metric, facts, split) if facts.teacher else None
    if limit is not None and limit.min is not None:
        bound = limit.min
    elif limit is not None and limit.max_drop is not None and teacher is not None:
        bound = teacher.value - limit.max_drop
    where = f" on {split}" if split else ""
    where += html.escape(f",{facts.where.removeprefix(' on')}") if facts.where else ""
    return Axis(metric, f"{words.title(metric)}{where}, points", "fraction", bound)


def _limit(result: RunResult, metric: str, facts: Facts) -> Limit | None:
    """Find the limit that bounds a metric on the target that is drawn."""
    mine = [one for one in result.budget if one.target in (None, facts.target)]
    return next((limit for limit in mine if limit.metric == metric), None)


def _bound(result: RunResult, metric: str, facts: Facts) -> float | None:
    limit = _limit(result, metric, facts)
    return limit.max if limit else None


def _value(line: Line, axis: Axis, facts: Facts, split: str | None) -> Measurement | None:
    if axis.unit == "fraction":
        found = scored(line.row, axis.metric, facts, split)
    else:
        found = find(line.row.measurements, axis.metric, target=facts.target)
    if found is None or not math.isfinite(found.value):
        return None
    return found if axis.unit == "fraction" or found.value > 0 else None


def scaled(value: float, unit: str) -> float:
    """Give what an axis shows: points and MB."""
    return value * {"fraction": 100.0, "bytes": 1e-6}.get(unit, 1.0)


def _group(line: Line) -> str:
    if line.winner:
        return "winner"
    if line.row.kind == "reference":
        return "reference"
    return "front" if line.row.pareto else "other"


def _figure(points: list[_Point], x: Axis, y: Axis) -> str:
    """Draw one panel as plotly's JSON, in which `<`, `>` and `/` are escaped for a script."""
    import plotly.graph_objects as go
    import plotly.io as pio

    figure = go.Figure()
    labels = _labels(points)
    for group in reversed(GROUPS):
        name, colour, symbol, size = GROUPS[group]
        mine = [point for point in points if _group(point.line) == group]
        figure.add_scatter(
            x=[scaled(point.x.value, x.unit) for point in mine],
            y=[scaled(point.y.value, y.unit) for point in mine],
            text=[labels[point.line.key][0] for point in mine],
            hovertext=[_hover(point, x, y) for point in mine],
            hovertemplate="%{hovertext}<extra></extra>",
            mode="markers+text",
            textposition=[labels[point.line.key][1] for point in mine],
            name=name,
            marker={
                "color": colour,
                "symbol": [_symbol(point, symbol) for point in mine],
                "size": size,
                "line": {"width": 2, "color": colour},
            },
            cliponaxis=False,
        )
    dashed = {"width": 1.5, "dash": "5px,5px", "color": "#c2574a"}
    if x.bound:
        figure.add_vline(x=scaled(x.bound, x.unit), line=dashed)
    if y.bound is not None:
        figure.add_hline(y=scaled(y.bound, y.unit), line=dashed)
    figure.update_layout(
        **LAYOUT,
        xaxis=scale([point.x.value for point in points], x),
        yaxis=scale([point.y.value for point in points], y),
    )
    return str(pio.to_json(figure))


def scale(values: list[float], axis: Axis) -> dict[str, object]:
    """Set up an axis: logarithmic with round ticks for sizes and times, plain for accuracy."""
    shared: dict[str, object] = {
        "title": {"text": axis.title, "standoff": 10},
        "fixedrange": True,
        "zeroline": False,
        "showline": False,
        "automargin": True,
    }
    shown = [scaled(value, axis.unit) for value in values]
    shown += [scaled(axis.bound, axis.unit)] if axis.bound else []
    low, high = min(shown), max(shown)
    if axis.unit == "fraction":
        pad = max((high - low) * 0.14, 0.2)
        return shared | {"range": [low - pad, high + pad], "nticks": 7}
    start, end = math.log10(low), math.log10(high)
    pad = max((end - start) * 0.09, 0.04)
    ticks = _ticks(10 ** (start - pad), 10 ** (end + pad))
    return shared | {
        "type": "log",
        "range": [start - pad, end + pad],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
    }


def _ticks(low: float, high: float) -> list[float]:
    """Choose round ticks of a logarithmic axis, about 3 to 8 of them."""
    for steps in (
        (1,),
        (1, 3),
        (1, 2, 5),
        (1, 1.5, 2, 3, 4, 6, 8),
        tuple(n / 10 for n in range(10, 100)),
    ):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [float(f"{step * 10.0**power:.6g}") for power in powers for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 4:
            return ticks[:: math.ceil(len(ticks) / 8)]
    return []


SIDES = {
    "top center": (0, -16),
    "middle right": (16, 0),
    "bottom center": (0, 16),
    "middle left": (-16, 0),
}
"""Where a label may stand: plotly's name and the offset of its middle from the point, in px."""


def _labels(points: list[_Point]) -> dict[str, tuple[str, str]]:
    """Give each point its label and side; points that nearly coincide share one, ``b, c``.

    Greedy: the first side on which the label meets no other point and no earlier label, in a plot
    as wide as a phone's.
    """
    xs = [math.log(max(point.x.value, 1e-12)) for point in points]
    ys = [point.y.value for point in points]
    left, bottom = min(xs), min(ys)
    wide, tall = (max(max(values) - min(values), 1e-9) for values in (xs, ys))
    spots = [
        (260 * (x - left) / wide, 230 * (1 - (y - bottom) / tall))
        for x, y in zip(xs, ys, strict=True)
    ]
    groups: list[tuple[tuple[float, float], list[str]]] = []
    for point, spot in zip(points, spots, strict=True):
        near = next((keys for other, keys in groups if math.dist(spot, other) < 7), None)
        if near is None:
            groups.append((spot, [point.line.key]))
        else:
            near.append(point.line.key)
    taken = [spot for spot, _ in groups]
    labels = {point.line.key: ("", "top center") for point in points}
    for (x, y), keys in groups:
        others = [place for place in taken if place != (x, y)]

        def room(side: str, x: float = x, y: float = y, others: Any = others) -> float:
            across, down = SIDES[side]
            return min((math.dist((x + across, y + down), place) for place in others), default=99.0)

        # `max` keeps the first of equals, so more room than a label needs does not move it.
        best = max(SIDES, key=lambda side: min(room(side), 13.0))
        labels[keys[0]] = (", ".join(keys), best)
        taken.append((x + SIDES[best][0], y + SIDES[best][1]))
    return labels


def _symbol(point: _Point, symbol: str) -> str:
    return "x-thin-open" if point.x.invalid or point.y.invalid else symbol


def _hover(point: _Point, x: Axis, y: Axis) -> str:
    """Write what a pointer sees; plotly reads HTML here, so names are escaped."""
    lines = [f"<b>{html.escape(point.line.key)} · {html.escape(point.line.name)}</b>"]
    for axis, found in ((x, point.x), (y, point.y)):
        value = words.with_unit(found.value, found.unit)
        lines.append(f"{html.escape(words.title(axis.metric))}: {html.escape(value)}")
        if found.invalid:
            lines.append(f"not valid: {html.escape(words.plain(found.invalid))}")
    return "<br>".join(lines)
