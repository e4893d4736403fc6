"""Raw nanoseconds to measurements, with the rules that say when a number must not be trusted.

Pure functions. Two decisions, and why:

- A percentile's interval comes from order statistics (the binomial distribution of how many
  readings lie below it), so it assumes nothing about the shape of the times. Neighbouring readings
  are alike, though: it is widened by how much more the stretches of the loop differ than
  independent readings would. It is the interval for *these* inputs in *this* process.
- A ratio compares the same work: for each input the median of its readings, summed over inputs,
  reference over model. The median within an input drops the spikes of a shared machine, and as the
  two models take turns inference by inference, a machine that slows down slows both. Its interval
  is a percentile bootstrap over inputs with a fixed seed.
- What makes a number invalid stands in `edgecompress.disturbance`.

Sources: H. A. David and H. N. Nagaraja, Order Statistics (2003), section 7.1; B. Efron and
R. Tibshirani, An Introduction to the Bootstrap (1993).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgecompress.disturbance import RULES, Loop, Rules, disturbed
from edgecompress.intervals import dispersion, interval_ranks, needed, widened
from edgecompress.values import Json, Measurement

LATENCY_QUANTILES = (0.5, 0.9, 0.99)
BIN = 1.02  # narrower than what a median moves by itself from one loop to the next
STRETCHES = 500  # of a loop, to resample: more change no interval


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """The readings of one model.

    Attributes
    ----------
    ns : ndarray of int64, shape (readings,)
        Wall time of each inference, in order.
    items : ndarray of int64, shape (readings,)
        Which input each reading belongs to; equal for all models of one loop.
    """

    ns: np.ndarray
    items: np.ndarray


def _drift(values: np.ndarray, items: np.ndarray) -> float:
    """Median of the last third over that of the first, minus 1; inputs made comparable first."""
    if len(values) < 12:
        return 0.0
    level = np.ones(int(items.max()) + 1)
    if len(np.unique(items)) < len(items):  # several passes: each input against its own median
        for item in np.unique(items):
            level[item] = np.median(values[items == item]) or 1.0
    relative = values / level[items]
    third = len(relative) // 3
    first, last = np.median(relative[:third]), np.median(relative[-third:])
    return float(last / first - 1) if first > 0 else 0.0


def spoiled(series: Series, loop: Loop, quantile: float, rules: Rules = RULES) -> str | None:
    """Say why a percentile of these readings must not be trusted; None when the loop was sound.

    Medians bear more than tails: each interruption of the process is one of the long times.
    """
    return disturbed(
        loop,
        cpu_share=rules.min_cpu_share if quantile <= 0.5 else rules.min_tail_cpu_share,
        drift=_drift(series.ns, series.items),
        max_drift=rules.max_drift,
        rules=rules,
        ratio=False,
    )


def percentile(
    series: Series,
    loop: Loop,
    quantile: float,
    *,
    metric: str,
    target: str,
    split: str | None = None,
    conditions: Json | None = None,
    rules: Rules = RULES,
) -> Measurement:
    """Give one percentile of a model's times in ms, with its 95 % interval.

    Parameters
    ----------
    series : Series
    loop : Loop
    quantile : float
        Between 0 and 1: 0.5 gives p50. The value is the smallest reading that at least this
        share of readings does not exceed.
    metric, target, split, conditions
        As in `Measurement`.
    rules : Rules
    """
    ns = np.sort(series.ns)
    if not len(ns):
        return Measurement(
            metric, math.nan, "ms", target, split, samples=0,
            invalid="no reading; measure again", conditions=conditions or {},
        )  # fmt: skip
    ranks = interval_ranks(len(ns), quantile)
    if ranks is not None:
        ranks = widened(ranks, quantile * len(ns), dispersion(series.ns, quantile), len(ns))
    value = float(ns[max(math.ceil(quantile * len(ns)) - 1, 0)]) / 1e6
    invalid = spoiled(series, loop, quantile, rules)
    if ranks is None and not loop.emulated:
        invalid = (
            f"too few readings: {len(ns)}, and p{quantile * 100:g} needs {needed(quantile)}; "
            "raise min_count or max_duration_ms"
        )
    return Measurement(
        metric,
        value,
        "ms",
        target,
        split,
        samples=len(ns),
        interval=(float(ns[ranks[0]]) / 1e6, float(ns[ranks[1]]) / 1e6) if ranks else None,
        invalid=invalid,
        conditions=conditions or {},
    )


def latencies(
    series: Series,
    loop: Loop,
    *,
    target: str,
    split: str | None = None,
    conditions: Json | None = None,
    rules: Rules = RULES,
) -> tuple[Measurement, ...]:
    """Give ``latency_p50``, ``latency_p90`` and ``latency_p99`` in ms.

    The conditions of p50 hold the ``distribution`` of the readings (`histogram`).
    """
    first, *rest = (
        percentile(
            series, loop, quantile, metric=f"latency_p{quantile * 100:g}", target=target,
            split=split, conditions=conditions, rules=rules,
        )
        for quantile in LATENCY_QUANTILES
    )  # fmt: skip
    drawn = {**first.conditions, "distribution": histogram(series.ns)}
    return (replace(first, conditions=drawn), *rest)


def histogram(ns: np.ndarray) -> list[list[float]]:
    """Count readings in bins that are each `BIN` wider than the one before.

    Parameters
    ----------
    ns : ndarray of int64, shape (readings,)

    Returns
    -------
    list of [low_ms, count]
        Bins that hold any reading, the fastest first; a bin reaches to `BIN` times its low end.
    """
    ms = ns[ns > 0] / 1e6
    places, counts = np.unique(np.floor(np.log(ms) / np.log(BIN)).astype(int), return_counts=True)
    return [
        [float(f"{BIN**place:.4g}"), int(count)]
        for place, count in zip(places, counts, strict=True)
    ]


def _per_item(series: Series) -> np.ndarray:
    """Low median of each input's times, int64 (inputs,), in the order of their numbers.

    The low one: of four readings two may be disturbed and it is still a sound one.
    """
    found = [np.sort(series.ns[series.items == item]) for item in np.unique(series.items)]
    return np.array([ns[(len(ns) - 1) // 2] for ns in found], dtype=np.int64)


def speedup(
    reference: Series,
    series: Series,
    loop: Loop,
    *,
    target: str,
    metric: str = "speedup",
    split: str | None = None,
    conditions: Json | None = None,
    seed: int = 0,
    resamples: int = 2000,
    rules: Rules = RULES,
) -> Measurement:
    """Give the reference's time over the model's for the same inputs, interleaved in one loop.

    Parameters
    ----------
    reference, series : Series
        Readings of one loop: equal ``items``.
    loop : Loop
    target, metric, split, conditions
        As in `Measurement`.
    seed : int
        Of the bootstrap; the same readings give the same interval.
    resamples : int
    rules : Rules

    Returns
    -------
    Measurement
        `metric` in ``x``, above 1 when the model is faster than the reference.

    Raises
    ------
    ValueError
        When the two series are not of one interleaved loop.
    """
    if not np.array_equal(reference.items, series.items):
        raise ValueError("a ratio needs two series of one interleaved loop")
    conditions = {"statistic": "total of per-input medians", "paired": True} | (conditions or {})
    slow, fast = _per_item(reference), _per_item(series)
    if not len(fast) or fast.min() <= 0:
        return Measurement(
            metric, math.nan, "x", target, split, samples=len(series.ns),
            invalid="no measurable time; use longer inputs", conditions=conditions,
        )  # fmt: skip
    value = float(slow.sum() / fast.sum())
    drawn = np.random.default_rng(seed).integers(0, len(fast), (resamples, len(fast)))
    ratios = slow[drawn].sum(axis=1) / fast[drawn].sum(axis=1)
    low, high = (float(end) for end in np.quantile(ratios, (0.025, 0.975)))
    positive = np.maximum(series.ns, 1)
    invalid = disturbed(
        loop,
        cpu_share=rules.min_ratio_cpu_share,
        drift=_drift(reference.ns / positive, series.items),
        max_drift=rules.max_ratio_drift,
        rules=rules,
        ratio=True,
    )
    if len(series.ns) < rules.min_pairs and not loop.emulated:
        invalid = (
            f"too few pairs: {len(series.ns)} of {rules.min_pairs}; "
            "raise min_count or max_duration_ms"
        )
    return Measurement(
        metric, value, "x", target, split, samples=len(series.ns),
        interval=(min(low, value), max(high, value)), invalid=invalid, conditions=conditions,
    )  # fmt: skip


def throughput(
    series: Series,
    batch: int,
    loop: Loop,
    *,
    target: str,
    conditions: Json | None = None,
    seed: int = 0,
    resamples: int = 2000,
    rules: Rules = RULES,
) -> Measurement:
    """Give the examples per second of an offline loop, in which one reading is one batch.

    That is all examples over all time spent on them: what a spike cost is in it. The interval is a
    bootstrap over consecutive stretches of the loop, as neighbouring readings are alike.

    Parameters
    ----------
    series : Series
    batch : int
        Examples of each reading.
    loop : Loop
    target, conditions
        As in `Measurement`; its slice is ``batch:<batch>``.
    seed : int
        Of the bootstrap.
    resamples : int
    rules : Rules
    """
    part = f"batch:{batch}"
    ns = np.maximum(series.ns, 1)
    if not len(ns):
        return not_measured("throughput", "1/s", "no reading; measure again", target, part)
    stretches = np.array_split(ns, min(len(ns), STRETCHES))
    total = np.array([each.sum() for each in stretches], dtype=np.float64)
    count = np.array([len(each) for each in stretches], dtype=np.float64) * batch
    value = float(count.sum() / total.sum() * 1e9)
    drawn = np.random.default_rng(seed).integers(0, len(total), (resamples, len(total)))
    rates = count[drawn].sum(axis=1) / total[drawn].sum(axis=1) * 1e9
    low, high = (float(end) for end in np.quantile(rates, (0.025, 0.975)))
    invalid = spoiled(series, loop, 0.5, rules)
    if len(ns) < rules.min_pairs and not loop.emulated:
        invalid = (
            f"too few readings: {len(ns)} of {rules.min_pairs} batches; "
            "raise min_duration_ms or max_duration_ms"
        )
    return Measurement(
        "throughput", value, "1/s", target, slice=part, samples=len(ns) * batch,
        interval=(min(low, value), max(high, value)), invalid=invalid, conditions=conditions or {},
    )  # fmt: skip


def not_measured(
    metric: str, unit: str, reason: str, target: str, slice: str | None = None
) -> Measurement:
    """Give the measurement that says why there is no number."""
    return Measurement(metric, math.nan, unit, target, slice=slice, samples=0, invalid=reason)


def median_of_starts(
    metric: str,
    values: Sequence[float],
    unit: str,
    *,
    target: str,
    conditions: Json | None = None,
    invalid: str | None = None,
) -> Measurement:
    """Give the median over fresh processes (load time, first inference, memory).

    From six starts on there is a 95 % interval by order statistics; fewer give none, which
    ``conditions["interval"]`` says. All values stand in ``conditions["starts"]``. `invalid` says
    why the target's readings mean nothing.
    """
    conditions = {**(conditions or {}), "starts": list(values)}
    ordered, ranks = sorted(values), interval_ranks(len(values), 0.5)
    if ranks is None:
        fewest = needed(0.5)
        conditions["interval"] = f"none: {len(values)} starts, and an interval needs {fewest}"
    return Measurement(
        metric,
        statistics.median(values) if values else math.nan,
        unit,
        target,
        samples=len(values),
        interval=(ordered[ranks[0]], ordered[ranks[1]]) if ranks else None,
        invalid=invalid if values else "no start was measured; raise cold_starts",
        conditions=conditions,
    )  # fmt: skip
