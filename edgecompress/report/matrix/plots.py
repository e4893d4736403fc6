"""The plots of a group: accuracy against sparsity, against size and against the download.

Colours say what was done to the weights, symbols and dashes how they are quantized; bars reach
from the smallest to the largest of the repetitions. Colours of axes and text come from the page's
style sheet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from edgecompress.all_metrics import metric
from edgecompress.report import svg, words
from edgecompress.report.blocks import LegendKey
from edgecompress.report.matrix.summary import (
    SCORE,
    TAUGHT,
    TRAINS,
    UNTAUGHT,
    Group,
    Model,
    Spread,
)
from edgecompress.report.plot import Quantity, answers_axis, scale, scaled

DENSE = "as it is"
SMALLER, HEALED = "made smaller", "made smaller, then trained"
KINDS = {
    DENSE: "#12a37f",
    TAUGHT: "#3d82d6",
    UNTAUGHT: "#d07a1e",
    SMALLER: "#9a63c9",
    HEALED: "#c2407d",
}
"""Colours, legible on both themes, by what was done to the weights."""
SHAPES: dict[svg.Shape, str] = {
    "circle": "●", "square": "■", "diamond": "◆", "triangle": "▲", "cross": "✚", "star": "★",
    "down": "▼", "bar": "▬",
}  # fmt: skip
"""Symbols, and how the legend writes them."""
DASHES = ("", "4 4", "1 4", "8 3 2 3")
TEACHER = "#8b95a1"


def schemes(groups: Sequence[Group]) -> tuple[str, ...]:
    """Give all schemes in the order of the recipe, fp32 first."""
    found = dict.fromkeys(
        line.scheme for group in groups for line in group.lines if line.kind == "candidate"
    )
    return tuple(sorted(found, key=lambda one: one != "fp32"))


def legend(groups: Sequence[Group], order: Sequence[str]) -> tuple[LegendKey, ...]:
    """Say what the colours and symbols mean."""
    lines = [line for group in groups for line in group.lines if line.tried]
    found = {_kind(line) for line in lines if line.kind == "candidate"}
    colours = (LegendKey(kind, colour) for kind, colour in KINDS.items() if kind in found)
    symbols = (LegendKey(scheme, symbol=SHAPES[_shape(scheme, order)]) for scheme in order)
    return *colours, *symbols, LegendKey("the teacher", TEACHER, look="bound")


def draw(group: Group, order: Sequence[str]) -> tuple[svg.Plot, ...]:
    """Draw a group; `order` are the schemes of the whole page, so that symbols stay the same."""
    points = [line for line in group.lines if line.kind == "candidate" and _score(line)]
    if len(points) < 2:
        return ()
    drawn = []
    score = words.title(group.primary or "score")
    if sum(line.sparsity is not None for line in points) > 1:
        drawn.append(replace(_sparsity(group, points, order), title=f"{score} against sparsity"))
    for cost, title in (("size", "Size, MB"), ("download_size", "Compressed download, MB")):
        mine = [line for line in points if cost in line.readings]
        if len(mine) > 1:
            axis = Quantity(cost, title, "bytes", None)
            name = f"{score} against {'size' if cost == 'size' else 'the compressed download'}"
            drawn.append(replace(_costs(group, mine, axis, order), title=name))
    return tuple(drawn)


def _shape(scheme: str, order: Sequence[str]) -> svg.Shape:
    return [*SHAPES][order.index(scheme) % len(SHAPES)]


def _kind(line: Model) -> str:
    if line.series in KINDS:
        return line.series
    *_, last = (part.partition("(")[0] for part in line.model.split("+"))
    return HEALED if last in TRAINS else SMALLER


def _score(line: Model) -> Spread | None:
    return line.readings.get(SCORE)


def _shown(value: float, group: Group) -> float:
    return scaled(value, _unit(group))


def _unit(group: Group) -> str:
    return metric(group.primary).unit if group.primary else "fraction"


def _between(found: Spread, group: Group) -> tuple[float, float] | None:
    """Give the range of the repetitions; languages are none, so that a mean has no bars."""
    if group.mean or found.low >= found.high:
        return None
    return _shown(found.low, group), _shown(found.high, group)


def _mark(
    line: Model, x: float, colour: str, group: Group, order: Sequence[str]
) -> svg.Mark | None:
    found = _score(line)
    if found is None:
        return None
    return svg.Mark(
        x,
        _shown(found.value, group),
        colour,
        _hover(line, group),
        shape=_shape(line.scheme, order),
        size=5.0,
        between=_between(found, group),
    )


def _sparsity(group: Group, points: Sequence[Model], order: Sequence[str]) -> svg.Plot:
    """Draw a line per way of pruning and scheme; the model as it is stands at 0."""
    series = dict.fromkeys(
        (line.series, line.scheme) for line in points if line.sparsity is not None
    )
    marks: list[svg.Mark] = []
    lines: list[svg.Polyline] = []
    for name, scheme in series:
        mine = [
            line
            for line in points
            if line.scheme == scheme
            and ((line.series == name and line.sparsity is not None) or line.series == DENSE)
        ]
        mine.sort(key=lambda line: line.sparsity or 0.0)
        colour = KINDS.get(name, KINDS[SMALLER])
        drawn = [_mark(line, 100 * (line.sparsity or 0.0), colour, group, order) for line in mine]
        found = [one for one in drawn if one is not None]
        dash = DASHES[order.index(scheme) % len(DASHES)]
        lines.append(svg.Polyline(tuple((one.x, one.y) for one in found), colour, dash))
        marks += found
    title = "Sparsity, % of the weights"
    across = svg.Axis(title, -4, 104, (0.0, 20.0, 40.0, 60.0, 80.0, 100.0))
    return _finish(group, across, marks, lines)


def _costs(group: Group, points: Sequence[Model], axis: Quantity, order: Sequence[str]) -> svg.Plot:
    """Draw every model as a point: accuracy against what it costs."""
    marks = []
    for kind in KINDS:
        for line in points:
            x = scaled(line.readings[axis.metric].value, axis.unit)
            mark = _mark(line, x, KINDS[kind], group, order) if _kind(line) == kind else None
            marks += [mark] if mark else []
    across = scale([line.readings[axis.metric].value for line in points], axis)
    return _finish(group, across, marks)


def _finish(
    group: Group, across: svg.Axis, marks: Sequence[svg.Mark], lines: Sequence[svg.Polyline] = ()
) -> svg.Plot:
    """Add the teacher's accuracy and the vertical axis."""
    teacher = group.line("teacher")
    base = _score(teacher) if teacher else None
    shown = [end for one in marks for end in (one.y, *(one.between or ())) if math.isfinite(end)]
    shown += [_shown(base.value, group)] if base else []
    name = words.title(group.primary or "score")
    return svg.Plot(
        across,
        answers_axis(shown, f"{name}{f' on {group.split}' if group.split else ''}", _unit(group)),
        tuple(marks),
        f"{name} of {len(marks)} models; the same figures are in the table below",
        lines=tuple(lines),
        guides=(svg.Guide(TEACHER, y=_shown(base.value, group)),) if base else (),
    )


def _hover(line: Model, group: Group) -> tuple[str, ...]:
    """Write what a pointer sees."""
    lines = [f"{words.plain(line.model)}, {words.plain(line.scheme)}"]
    for one in (SCORE, "size", "download_size", "speedup"):
        found = line.readings.get(one)
        if found is None:
            continue
        name = words.title(group.primary or "score") if one == SCORE else words.title(one)
        text = f"{name}: {words.with_unit(found.value, found.unit)}"
        if found.low < found.high:
            text += f" ({words.span((found.low, found.high), found.unit)})"
        lines.append(text)
        if found.invalid:
            lines.append(f"not valid: {words.plain(found.invalid)}")
    return tuple(lines)
