"""Small plots as inline SVG: points, lines, guides and labels that do not cover each other; pure.

Colours of axes and text come from the page's style sheet, so that one drawing serves the light and
the dark theme and paper. What a pointer sees stands in `<title>`, so that it needs no script.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

WIDTH, HEIGHT = 420, 320
"""Of a drawing, in its own units; the page scales it."""
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 14, 48
CHARACTER, LETTER_HEIGHT = 7.6, 13.0
"""Width and height that a label takes for each of its characters, a little more than it needs."""

RINGS = (15, 24, 36, 50, 66, 84, 110, 140, 180, 230)
"""How far from its point a label may stand, tried from within."""

Shape = Literal[
    "circle", "square", "diamond", "triangle", "cross", "star", "down", "bar", "invalid"
]
_PATHS: dict[str, str] = {
    "square": "M-1-1H1V1H-1Z",
    "diamond": "M0-1.3L1.3 0L0 1.3L-1.3 0Z",
    "triangle": "M0-1.25L1.15 .9H-1.15Z",
    "cross": "M-1.2-.4H-.4V-1.2H.4V-.4H1.2V.4H.4V1.2H-.4V.4H-1.2Z",
    "star": "M0-1.35L.36-.44L1.28-.42L.58.18L.83 1.1L0 .57L-.83 1.1L-.58.18L-1.28-.42L-.36-.44Z",
    "down": "M0 1.25L1.15-.9H-1.15Z",
    "bar": "M-1.4-.55H1.4V.55H-1.4Z",
    "invalid": "M-1-1L1 1M-1 1L1-1",
}
"""Outlines around 0, of radius about 1."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale: its title, its ends and its ticks, all in what is shown (points, MB, ms)."""

    title: str
    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def share(self, value: float) -> float:
        """Give where on the axis a value lies: 0 at its low end, 1 at its high end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True, slots=True)
class Mark:
    """A point: where, how it looks, its label and what a pointer sees (lines)."""

    x: float
    y: float
    colour: str
    hover: tuple[str, ...]
    shape: Shape = "circle"
    size: float = 5.5
    filled: bool = True
    label: str = ""
    between: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Polyline:
    """A line through points, in their order."""

    points: tuple[tuple[float, float], ...]
    colour: str
    dash: str = ""


@dataclass(frozen=True, slots=True)
class Guide:
    """A dashed line across the whole plot, at `x` or at `y`."""

    colour: str
    x: float | None = None
    y: float | None = None


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot: marks in the order drawn (the last on top), over lines and guides.

    `name` is what it shows, for who cannot see it; `title` stands above it.
    """

    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    name: str
    lines: tuple[Polyline, ...] = ()
    guides: tuple[Guide, ...] = ()
    title: str = ""


def linear(values: Sequence[float], title: str, least: float = 0.4) -> Axis:
    """Make a plain axis around values, at least `least` wide, with round ticks."""
    low, high = min(values), max(values)
    pad = max((high - low) * 0.12, (least - (high - low)) / 2, 1e-9)
    low, high = low - pad, high + pad
    return Axis(title, low, high, tuple(_even(low, high)))


def logarithmic(values: Sequence[float], title: str, share: float = 0.09) -> Axis:
    """Make a logarithmic axis around positive values, with three to eight round ticks."""
    start, end = math.log10(min(values)), math.log10(max(values))
    pad = max((end - start) * share, 0.04)
    low, high = 10 ** (start - pad), 10 ** (end + pad)
    return Axis(title, low, high, tuple(_ticks(low, high)), log=True)


def draw(plot: Plot) -> str:
    """Draw a plot; every text is escaped."""
    x, y, marks = plot.x, plot.y, plot.marks

    def place(a: float, b: float) -> tuple[float, float]:
        across = LEFT + x.share(a) * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - y.share(b) * (HEIGHT - TOP - BOTTOM)

    parts = [_axes(x, y, place)]
    for guide in plot.guides:
        a, b = place(x.low, guide.y or 0.0), place(x.high, guide.y or 0.0)
        if guide.x is not None:
            a, b = place(guide.x, y.low), place(guide.x, y.high)
        parts.append(
            f'<path class="guide" stroke="{escape(guide.colour)}" d="M{_n(*a)}L{_n(*b)}"/>'
        )
    for line in plot.lines:
        d = "L".join(_n(*place(*point)) for point in line.points)
        dash = f' stroke-dasharray="{escape(line.dash)}"' if line.dash else ""
        parts.append(f'<path class="line" stroke="{escape(line.colour)}"{dash} d="M{d}"/>')
    spots = [place(mark.x, mark.y) for mark in marks]
    for mark, spot in zip(marks, spots, strict=True):
        ends = [place(mark.x, end)[1] for end in mark.between] if mark.between else []
        parts.append(_mark(mark, spot, ends))
    parts += _labels(marks, spots)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(plot.name)}">'
        f"{''.join(parts)}</svg>"
    )


def _axes(x: Axis, y: Axis, at: Callable[[float, float], tuple[float, float]]) -> str:
    parts = []
    for tick in y.ticks:
        across, down = at(x.low, tick)
        parts.append(f'<path class="grid" d="M{_n(across, down)}H{WIDTH - RIGHT}"/>')
        parts.append(_text(across - 7, down + 4, _number(tick), "tick", "end"))
    for tick in x.ticks:
        across, down = at(tick, y.low)
        parts.append(f'<path class="grid" d="M{_n(across, down)}V{TOP}"/>')
        parts.append(_text(across, down + 17, _number(tick), "tick", "middle"))
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    parts.append(_text(middle, HEIGHT - 8, x.title, "title", "middle"))
    down = TOP + (HEIGHT - TOP - BOTTOM) / 2
    parts.append(
        f'<text class="title" text-anchor="middle" transform="translate(14 {down:.0f}) '
        f'rotate(-90)">{escape(y.title)}</text>'
    )
    return "".join(parts)


def _number(tick: float) -> str:
    """Write a tick so short that it does not reach the axis' title."""
    large = ((1e6, "M"), (1e3, "k")) if tick >= 1e4 else ()
    return next((f"{tick / by:g} {sign}" for by, sign in large if tick >= by), f"{tick:g}")


_OPEN = ' class="open"'


def _mark(mark: Mark, spot: tuple[float, float], ends: Sequence[float]) -> str:
    colour, size = escape(mark.colour), f"{mark.size:g}"
    bar = f'<path d="M0 {ends[0] - spot[1]:.1f}V{ends[1] - spot[1]:.1f}"/>' if ends else ""
    open_ = mark.shape == "invalid" or not mark.filled
    if mark.shape == "circle":
        body = f'<circle r="{size}"{_OPEN if open_ else ""}/>'
    else:
        d = _PATHS[mark.shape]
        body = f'<path transform="scale({size})"{_OPEN if open_ else ""} d="{d}"/>'
    title = escape("\n".join(mark.hover))
    return (
        f'<g class="mark" style="--c:{colour}" transform="translate({_n(*spot)})" tabindex="0">'
        f'<title>{title}</title><circle class="reach" r="12"/>{bar}{body}</g>'
    )


Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def _covered(box: Box, taken: Sequence[Box]) -> float:
    """Give how much of a box is taken or out of the plot."""
    left, top, right, bottom = box
    outside = max(0.0, LEFT - left) + max(0.0, right - WIDTH + 2) + max(0.0, TOP - 12 - top)
    outside += max(0.0, bottom - HEIGHT + BOTTOM)
    return outside * LETTER_HEIGHT + sum(
        max(0.0, min(right, other[2]) - max(left, other[0]))
        * max(0.0, min(bottom, other[3]) - max(top, other[1]))
        for other in taken
    )


@dataclass(frozen=True, slots=True)
class Label:
    """A text and the box that it takes; `lead` is its point, where that is far."""

    text: str
    box: Box
    lead: tuple[float, float] | None = None


def place_labels(marks: Sequence[Mark], spots: Sequence[tuple[float, float]]) -> list[Label]:
    """Put each label where it covers nothing; points that coincide share one, ``b, c``.

    Greedy: rings of growing radius around the point, and on each many sides.
    """
    groups: list[tuple[tuple[float, float], list[str]]] = []
    for mark, spot in zip(marks, spots, strict=True):
        if not mark.label:
            continue
        near = next((keys for other, keys in groups if math.dist(spot, other) < 6), None)
        if near is None:
            groups.append((spot, [mark.label]))
        else:
            near.append(mark.label)
    taken: list[Box] = [(a - 7, b - 7, a + 7, b + 7) for a, b in spots]
    found = []
    for (across, down), keys in groups:
        text = ", ".join(sorted(keys, key=lambda key: (not key.isdigit(), len(key), key)))
        wide = len(text) * CHARACTER
        best = (math.inf, across, down)
        for radius in RINGS:
            sides = 8 if radius < 50 else 24
            for turn in range(sides):
                angle = math.pi * (turn * 2 / sides - 0.5)
                a = across + math.cos(angle) * (radius + (wide - CHARACTER) / 2)
                b = down + math.sin(angle) * radius
                covered = _covered(_box(a, b, wide), taken)
                if covered < best[0] - 0.01:
                    best = (covered, a, b)
            if best[0] == 0:
                break
        _, a, b = best
        box = _box(a, b, wide)
        taken.append(box)
        far = math.dist((a, b), (across, down)) > 20 + wide / 2
        found.append(Label(text, box, (across, down) if far else None))
    return found


def _labels(marks: Sequence[Mark], spots: Sequence[tuple[float, float]]) -> list[str]:
    parts = []
    for label in place_labels(marks, spots):
        left, top, right, bottom = label.box
        a, b = (left + right) / 2, (top + bottom) / 2
        if label.lead:
            parts.append(f'<path class="lead" d="M{_n(*label.lead)}L{_n(a, b)}"/>')
        parts.append(_text(a, b + 4.5, label.text, "label", "middle"))
    return parts


def _box(a: float, b: float, wide: float) -> Box:
    return a - wide / 2, b - LETTER_HEIGHT / 2, a + wide / 2, b + LETTER_HEIGHT / 2


def _text(a: float, b: float, text: str, kind: str, anchor: str) -> str:
    where = f'x="{a:.1f}" y="{b:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {where}>{escape(text)}</text>'


def _n(a: float, b: float) -> str:
    return f"{a:.1f} {b:.1f}"


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
    return _even(low, high)


def _even(low: float, high: float) -> list[float]:
    """Choose round ticks at equal distances, three to seven of them."""
    rough = (high - low) / 6
    power = 10 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(number * step, 10) for number in range(first, last + 1)]
