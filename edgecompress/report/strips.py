"""Rows of readings over one logarithmic axis: how a model's times spread, what a layer costs; pure.

The page draws them as boxes of its own, so that names stay readable on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgecompress.report import svg, words
from edgecompress.report.facts import Facts
from edgecompress.report.table import Table
from edgecompress.values import find

BIN = 1.02
"""Bins of a distribution are each so much wider than the one before (`edgecompress.timing`)."""


@dataclass(frozen=True, slots=True)
class Dot:
    """A reading: its place in % of the axis, its colour, and what a pointer sees."""

    left: float
    colour: str
    hover: str
    filled: bool = True


@dataclass(frozen=True, slots=True)
class Strip:
    """A row: its name, dots, and the outline of a distribution (a path in 0 … 100 × 0 … 20)."""

    key: str
    name: str
    dots: tuple[Dot, ...] = ()
    outline: str = ""
    hover: str = ""
    note: str = ""
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Strips:
    """Rows over one axis; ticks are their place in % and their text."""

    title: str
    ticks: tuple[tuple[float, str], ...]
    rows: tuple[Strip, ...]


def over(axis: svg.Axis, rows: Sequence[Strip]) -> Strips:
    """Put rows over an axis."""
    ticks = tuple((100 * axis.share(tick), _tick(tick)) for tick in axis.ticks)
    return Strips(axis.title, ticks, tuple(rows))


def latencies(facts: Facts, table: Table) -> Strips | None:
    """Draw how the times of every model spread on the main target; None where none was kept."""
    found = []
    for line in table.lines:
        times = find(line.row.measurements, "latency_p50", target=facts.target)
        bins = _bins(times.conditions.get("distribution")) if times else []
        if times is None or not bins or not math.isfinite(times.value):
            continue
        tails = {
            name: one.value
            for name in ("latency_p90", "latency_p99")
            if (one := find(line.row.measurements, name, target=facts.target))
            and math.isfinite(one.value)
        }
        found.append((line, times, bins, tails))
    if not found:
        return None
    # A few readings may be a hundred times the others: what lies beyond is counted, not drawn.
    ends = [max([times.value * 1.3, *tails.values()]) * 1.15 for _, times, _, tails in found]
    lows = [bins[0][0] for _, _, bins, _ in found]
    title = f"Time of one inference{facts.where}, ms"
    axis = svg.logarithmic([min(lows), max(ends)], title, share=0.02)
    rows = []
    for line, times, bins, tails in found:
        beyond = sum(count for low, count in bins if low >= axis.high)
        total = sum(count for _, count in bins)
        percentiles = {"p50": times.value} | {
            name.removeprefix("latency_"): value for name, value in tails.items()
        }
        said = ", ".join(f"{name} {words.significant(one)} ms" for name, one in percentiles.items())
        dots = tuple(
            Dot(100 * axis.share(one), "", f"{line.full_name}: {name} {words.significant(one)} ms")
            for name, one in percentiles.items()
            if one <= axis.high
        )
        hover = f"{line.full_name}: {total:,} readings from {words.significant(bins[0][0])} ms"
        note = f"{beyond:,} of {total:,} readings lie beyond the axis" if beyond else ""
        if times.invalid:
            note = "; ".join(filter(None, [note, "not valid"]))
        outline = _outline([pair for pair in bins if pair[0] < axis.high], axis)
        hover = f"{hover}; {said}"
        rows.append(Strip(line.key, line.name, dots, outline, hover, note, line.winner))
    return over(axis, rows)


def _bins(found: object) -> list[tuple[float, int]]:
    """Read a distribution; what is none counts as missing."""
    if not isinstance(found, list | tuple):
        return []
    bins = []
    for pair in found:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            return []
        low, count = pair
        if not isinstance(low, int | float) or not isinstance(count, int) or not 0 < low < math.inf:
            return []
        bins.append((float(low), count))
    return sorted(bins)


def _outline(bins: Sequence[tuple[float, int]], axis: svg.Axis) -> str:
    """Draw the bins as steps, the fullest 19 high, on a ground at 20."""
    most = max((count for _, count in bins), default=1) or 1
    parts = ["M0 20"]
    for low, count in bins:
        left, right = 100 * axis.share(low), 100 * min(axis.share(low * BIN), 1.0)
        top = 20 - max(19 * count / most, 0.6)
        parts.append(f"L{left:.2f} 20V{top:.2f}H{right:.2f}V20")
    return "".join(parts) + "Z"


def _tick(value: float) -> str:
    if value != 0 and not 1e-4 <= abs(value) < 1e5:
        return f"1e{math.log10(value):.0f}"
    return f"{value:g}"
