"""Rows of readings over one logarithmic axis: how times spread, what a layer costs; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgecompress.report import svg, words
from edgecompress.report.blocks import Dot, Strip, Strips
from edgecompress.report.facts import Facts, display_name, short_names
from edgecompress.report.main_table import row_keys
from edgecompress.values import find

BIN = 1.02
"""Bins of a distribution are each so much wider than the one before (`edgecompress.timing`)."""


def over(axis: svg.Axis, rows: Sequence[Strip], label: str, *, alarm: bool = False) -> Strips:
    """Put rows over an axis."""
    ticks = tuple((100 * axis.share(tick), _tick(tick)) for tick in axis.ticks)
    return Strips(label, axis.title, ticks, tuple(rows), alarm)


def latencies(facts: Facts) -> Strips | None:
    """Draw how the times of every model spread on the main target; None where none was kept."""
    found = []
    for row in facts.rows:
        times = find(row.measurements, "latency_p50", target=facts.target)
        bins = _bins(times.conditions.get("distribution")) if times else []
        if times is None or not bins or not math.isfinite(times.value):
            continue
        tails = {
            name: one.value
            for name in ("latency_p90", "latency_p99")
            if (one := find(row.measurements, name, target=facts.target))
            and math.isfinite(one.value)
        }
        found.append((row, times, bins, tails))
    if not found:
        return None
    # A few readings may be a hundred times the others: what lies beyond is counted, not drawn.
    ends = [max([times.value * 1.3, *tails.values()]) * 1.15 for _, times, _, tails in found]
    lows = [bins[0][0] for _, _, bins, _ in found]
    title = f"Time of one inference{facts.where}, ms"
    axis = svg.logarithmic([min(lows), max(ends)], title, share=0.02)
    rows: list[Strip] = []
    keys, (names, _) = row_keys(facts), short_names(facts.rows)
    for row, times, bins, tails in found:
        name = display_name(row)
        beyond = sum(count for low, count in bins if low >= axis.high)
        total = sum(count for _, count in bins)
        percentiles = {"p50": times.value} | {
            name.removeprefix("latency_"): value for name, value in tails.items()
        }
        said = ", ".join(f"{key} {words.significant(one)} ms" for key, one in percentiles.items())
        dots = tuple(
            Dot(
                100 * axis.share(one),
                "",
                f"{display_name(row)}: {name} {words.significant(one)} ms",
            )
            for name, one in percentiles.items()
            if one <= axis.high
        )
        hover = f"{name}: {total:,} readings from {words.significant(bins[0][0])} ms"
        note = f"{beyond:,} of {total:,} readings lie beyond the axis" if beyond else ""
        if times.invalid:
            note = "; ".join(filter(None, [note, "not valid"]))
        outline = _outline([pair for pair in bins if pair[0] < axis.high], axis)
        hover = f"{hover}; {said}"
        strong = row is facts.winner
        rows.append(Strip(keys[row.name], names[row.name], dots, outline, hover, note, strong))
    return over(axis, rows, "Distribution of times")


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
