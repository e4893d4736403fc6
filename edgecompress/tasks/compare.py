"""Two models' answers side by side: how often they agree, and how much one loses.

Resampling works on the counts per example that a task's metric is made of, so that a thousand
resamples cost two sums and no second reading of the answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import DataError
from edgecompress.metrics import Metric
from edgecompress.tasks.answers import Answers
from edgecompress.tasks.scoring import by_source, counts_of, value_of
from edgecompress.values import Example

RESAMPLES = 1000
CELLS = 4_000_000  # drawn indices held at a time (32 MB)


def agreement(a: Answers, b: Answers) -> float:
    """Share of the labels (one per word, or per text) that two models give alike; 1 for none.

    Raises
    ------
    ValueError
        When the answers are not to the same questions.
    """
    same = total = 0
    for left, right in zip(a.labels, b.labels, strict=True):
        same += sum(one == other for one, other in zip(left, right, strict=True))
        total += len(left)
    return same / total if total else 1.0


def paired_bootstrap_drop(
    metric: Metric,
    reference: Answers,
    answers: Answers,
    examples: Sequence[Example],
    seed: int,
    resamples: int = RESAMPLES,
    labels: Sequence[str] = (),
) -> tuple[float, float, float]:
    """How much worse `answers` are by a metric than `reference`, with its interval.

    Examples are drawn with replacement, the same ones for both models: Efron & Tibshirani 1993,
    "An Introduction to the Bootstrap", percentile interval; for paired systems Koehn 2004,
    "Statistical Significance Tests for Machine Translation Evaluation".

    Parameters
    ----------
    reference, answers : Answers
        To the same examples: the teacher's, and the candidate's.
    seed : int
    resamples : int
    labels : sequence of str
        The classes, which some metrics ask for.

    Returns
    -------
    drop, low, high : float
        In the metric's unit, positive where the candidate is worse: reference minus candidate
        where higher is better, else the other way; and the bounds of the 95 % interval.

    Raises
    ------
    DataError
        When there are no examples.
    """
    if not examples:
        raise DataError("no examples to compare two models on; name a split that is not empty")
    before, after = (counts_of(metric, one, examples) for one in (reference, answers))
    if before is None or after is None or metric.value is None:
        drop, drops = _whole_drops(metric, reference, answers, examples, seed, resamples, labels)
        return _with_interval(metric, drop, drops)
    return _summed_drops([metric], [before], [after], seed, resamples)[0]


def file_drops(
    metric: Metric,
    reference: Answers,
    answers: Answers,
    examples: Sequence[Example],
    seed: int,
    labels: Sequence[str] = (),
) -> dict[str, tuple[float, float, float, int]]:
    """Give `paired_bootstrap_drop` of every data file by itself, and its number of examples."""
    before, after = (counts_of(metric, one, examples) for one in (reference, answers))
    found = {}
    for source, numbers in by_source(examples).items():
        if before is not None and after is not None:
            part = _summed_drops([metric], [before[numbers]], [after[numbers]], seed, RESAMPLES)[0]
        else:
            some = [examples[number] for number in numbers]
            pair = reference.part(numbers), answers.part(numbers)
            part = paired_bootstrap_drop(metric, *pair, some, seed, labels=labels)
        found[source] = (*part, len(numbers))
    return found


def label_drops(
    metrics: Mapping[str, Metric],
    reference: Answers,
    answers: Answers,
    examples: Sequence[Example],
    seed: int,
) -> dict[str, tuple[float, float, float]]:
    """Give `paired_bootstrap_drop` of every label, from the metric of each (`Task.of_label`)."""
    if not metrics:
        return {}
    before, after = (
        [_sums(one, given, examples) for one in metrics.values()] for given in (reference, answers)
    )
    drops = _summed_drops([*metrics.values()], before, after, seed, RESAMPLES)
    return dict(zip(metrics, drops, strict=True))


def _sums(metric: Metric, answers: Answers, examples: Sequence[Example]) -> NDArray[np.float64]:
    found = counts_of(metric, answers, examples)
    if found is None:
        raise TypeError(f"metric {metric.name!r} of a label declares no counts")
    return found


def _with_interval(
    metric: Metric, drop: float, drops: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Give reference minus candidate with its interval, turned so that a loss is positive."""
    low, high = np.percentile(drops, (2.5, 97.5))
    if metric.higher_is_better:
        return drop, float(low), float(high)
    return -drop, float(-high), float(-low)


def _summed_drops(
    metrics: Sequence[Metric],
    before: Sequence[NDArray[np.float64]],
    after: Sequence[NDArray[np.float64]],
    seed: int,
    resamples: int,
) -> list[tuple[float, float, float]]:
    """Give the loss of each metric with its interval, from float64 (examples, k) counts of each.

    All are worked out on the same resamples.
    """
    stops = np.cumsum([one.shape[1] for one in (*before, *after)])[:-1]
    both = np.concatenate((*before, *after), axis=1)
    found: list[list[NDArray[np.float64]]] = [[] for _ in metrics]
    values = [one.value for one in metrics if one.value is not None]

    def differences(sums: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
        parts = np.split(sums, stops, axis=-1)
        pairs = zip(values, parts[: len(values)], parts[len(values) :], strict=True)
        return (value(ours) - value(its) for value, ours, its in pairs)

    for sums in _resampled(both, seed, resamples):
        for drops, one in zip(found, differences(sums), strict=True):
            drops.append(one)
    whole = (float(one) for one in differences(both.sum(0)))
    each = zip(metrics, whole, map(np.concatenate, found), strict=True)
    return [_with_interval(*one) for one in each]


def _resampled(
    counts: NDArray[np.float64], seed: int, resamples: int
) -> Iterator[NDArray[np.float64]]:
    """Give the sums of resampled counts, float64 (some, k), all resamples in some parts."""
    size = len(counts)
    generator = np.random.default_rng(seed)
    chunk = max(1, CELLS // size)
    for start in range(0, resamples, chunk):
        count = min(chunk, resamples - start)
        drawn = generator.integers(0, size, (count, size))
        drawn += np.arange(count)[:, None] * size  # a range of its own per resample
        times = np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size)
        yield times.astype(np.float64) @ counts


def _whole_drops(
    metric: Metric,
    reference: Answers,
    answers: Answers,
    examples: Sequence[Example],
    seed: int,
    resamples: int,
    labels: Sequence[str],
) -> tuple[float, NDArray[np.float64]]:
    """Give reference minus candidate of all examples and of every resample, for no sum."""

    def difference(numbers: Sequence[int]) -> float:
        some = [examples[number] for number in numbers]
        one, other = (
            value_of(metric, given.part(numbers), some, labels)[0] for given in (reference, answers)
        )
        return one - other

    size = len(examples)
    generator = np.random.default_rng(seed)
    if metric.weighed is not None:
        one, other = (metric.weighed(given, examples, labels) for given in (reference, answers))
        times = (
            np.bincount(generator.integers(0, size, size), minlength=size) for _ in range(resamples)
        )
        drops = [one(each) - other(each) for each in times]
        return one(np.ones(size, int)) - other(np.ones(size, int)), np.array(drops)
    drawn = (generator.integers(0, size, size).tolist() for _ in range(resamples))
    return difference(range(size)), np.array([difference(numbers) for numbers in drawn])
