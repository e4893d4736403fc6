"""The Pareto plot: accuracy against size and against latency; points carry the table's keys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgecompress.all_metrics import metric
from edgecompress.report import svg, words
from edgecompress.report.facts import Facts, display_name, scored
from edgecompress.report.main_table import row_keys
from edgecompress.results import Limit, Row, RunResult
from edgecompress.values import Measurement, find

GROUPS: dict[str, tuple[str, str, svg.Shape, float]] = {
    "winner": ("chosen", "#12a37f", "diamond", 7.5),
    "front": ("on the Pareto front", "#3d82d6", "circle", 6.0),
    "other": ("other candidate", "#8b95a1", "circle", 5.0),
    "reference": ("reference", "#b9822f", "square", 5.0),
}
"""Name, colour (legible on both themes), shape and size of each kind of point."""
BOUND = "#c2574a"


@dataclass(frozen=True, slots=True)
class Quantity:
    """What an axis shows: its title, unit and the budget's bound on it."""

    metric: str
    title: str
    unit: str
    bound: float | None


@dataclass(frozen=True, slots=True)
class _Point:
    row: Row
    key: str
    group: str
    x: Measurement
    y: Measurement


def draw(result: RunResult, facts: Facts) -> tuple[svg.Plot, ...]:
    """Draw the panels.

    Two panels where accuracy was measured (against size, against latency), else one (latency
    against size); none where fewer than two rows have both values.
    """
    split = "validation" if "validation" in facts.splits else facts.split
    size = Quantity("size", "Size, MB", "bytes", _bound(result, "size", facts))
    title = f"Latency p50{facts.where}, ms"
    latency = Quantity("latency_p50", title, "ms", _bound(result, "latency_p50", facts))
    pairs = [(size, latency)]
    if facts.primary is not None:
        accuracy = _accuracy(result, facts, split)
        pairs = [(size, accuracy), (latency, accuracy)]
    drawn, keys = [], row_keys(facts)
    for x, y in pairs:
        points = [
            _Point(row, keys[row.name], _group(row, facts), mine, value)
            for row in facts.rows
            if (mine := _value(row, x, facts, split)) is not None
            and (value := _value(row, y, facts, split)) is not None
        ]
        if len(points) >= 2:
            drawn.append(_figure(points, x, y))
    return tuple(drawn)


def scaled(value: float, unit: str) -> float:
    """Give what an axis shows: points and MB."""
    return value * {"fraction": 100.0, "bytes": 1e-6}.get(unit, 1.0)


def scale(values: Sequence[float], quantity: Quantity) -> svg.Axis:
    """Make a logarithmic axis, for sizes and times."""
    shown = [scaled(value, quantity.unit) for value in values]
    if quantity.bound:
        shown.append(scaled(quantity.bound, quantity.unit))
    return svg.logarithmic(shown, quantity.title)


def answers_axis(shown: Sequence[float], title: str, unit: str) -> svg.Axis:
    """Make the axis of a metric of answers: in points; logarithmic where it knows no bound."""
    if unit == "fraction":
        return svg.linear(shown, f"{title}, points")
    title = f"{title}, {words.sign(unit)}" if unit else title
    return svg.logarithmic(shown, title) if min(shown) > 0 else svg.linear(shown, title)


def _accuracy(result: RunResult, facts: Facts, split: str | None) -> Quantity:
    name = facts.primary or ""
    bound = None
    limit = _limit(result, name, facts)
    teacher = scored(facts.teacher, name, facts, split) if facts.teacher else None
    if limit is not None and limit.min is not None:
        bound = limit.min
    elif limit is not None and limit.max_drop is not None and teacher is not None:
        rise = limit.max_drop if words.rises(name) else -limit.max_drop
        bound = teacher.value + rise
    where = f" on {split}" if split else ""
    where += f",{facts.where.removeprefix(' on')}" if facts.where else ""
    return Quantity(name, f"{words.title(name)}{where}", metric(name).unit, bound)


def _limit(result: RunResult, metric: str, facts: Facts) -> Limit | None:
    """Find the limit that bounds a metric on the target that is drawn."""
    whole = [one for one in result.budget if one.each is None]
    mine = [one for one in whole if one.target in (None, facts.target)]
    return next((limit for limit in mine if limit.metric == metric), None)


def _bound(result: RunResult, metric: str, facts: Facts) -> float | None:
    limit = _limit(result, metric, facts)
    return limit.max if limit else None


def _value(row: Row, axis: Quantity, facts: Facts, split: str | None) -> Measurement | None:
    answers = axis.metric == facts.primary
    if answers:
        found = scored(row, axis.metric, facts, split)
    else:
        found = find(row.measurements, axis.metric, target=facts.target)
    if found is None or not math.isfinite(found.value):
        return None
    return found if answers or found.value > 0 else None


def _group(row: Row, facts: Facts) -> str:
    if row is facts.winner:
        return "winner"
    if row.kind == "reference":
        return "reference"
    return "front" if row.pareto else "other"


def _figure(points: Sequence[_Point], x: Quantity, y: Quantity) -> svg.Plot:
    order = [*GROUPS]
    behind_first = sorted(points, key=lambda point: -order.index(point.group))
    guides = [svg.Guide(BOUND, x=scaled(x.bound, x.unit))] if x.bound else []
    guides += [svg.Guide(BOUND, y=scaled(y.bound, y.unit))] if y.bound is not None else []
    if y.metric == "latency_p50":
        up = scale([point.y.value for point in points], y)
    else:
        shown = [scaled(point.y.value, y.unit) for point in points]
        shown += [scaled(y.bound, y.unit)] if y.bound is not None else []
        up = answers_axis(shown, y.title, y.unit)
    return svg.Plot(
        scale([point.x.value for point in points], x),
        up,
        tuple(_mark(point, x, y) for point in behind_first),
        guides=tuple(guides),
        name=f"{words.title(y.metric)} against {words.label(x.metric)} of {len(points)} models; "
        "the same figures are in the table above",
    )


def _mark(point: _Point, x: Quantity, y: Quantity) -> svg.Mark:
    _, colour, shape, size = GROUPS[point.group]
    lines = [f"{point.key} · {display_name(point.row)}"]
    for axis, found in ((x, point.x), (y, point.y)):
        lines.append(f"{words.title(axis.metric)}: {words.with_unit(found.value, found.unit)}")
        if found.invalid:
            lines.append(f"not valid: {words.plain(found.invalid)}")
    return svg.Mark(
        scaled(point.x.value, x.unit),
        scaled(point.y.value, y.unit),
        colour,
        tuple(lines),
        shape="invalid" if point.x.invalid or point.y.invalid else shape,
        size=size,
        filled=point.group != "other",
        label=point.key,
    )
