"""Two models' answers side by side: how often they agree, and how much one loses.

Resampling works on the counts per example that a task's metric is made of, so that a thousand
resamples cost two sums and no second reading of the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import DataError
from edgecompress.metrics import Metric
from edgecompress.tasks.answers import Answers
from edgecompress.tasks.scoring import counts_of, value_of
from edgecompress.values import Example

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
    resamples: int = 1000,
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
    else:
        value = metric.value
        drop = float(value(before.sum(0)) - value(after.sum(0)))
        drops = _drops(value, before, after, seed, resamples)
    low, high = np.percentile(drops, (2.5, 97.5))
    if metric.higher_is_better:
        return drop, float(low), float(high)
    return -drop, float(-high), float(-low)


def _drops(
    value: Callable[[NDArray[Any]], NDArray[Any]],
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    seed: int,
    resamples: int,
) -> NDArray[np.float64]:
    """Give reference minus candidate of every resample, float64 (resamples,), from counts."""
    both = np.concatenate((before, after), axis=1)
    width = before.shape[1]
    size = len(before)
    generator = np.random.default_rng(seed)
    drops = []
    chunk = max(1, CELLS // size)
    for start in range(0, resamples, chunk):
        count = min(chunk, resamples - start)
        drawn = generator.integers(0, size, (count, size))
        drawn += np.arange(count)[:, None] * size  # a range of its own per resample
        times = np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size)
        sums = times.astype(np.float64) @ both
        drops.append(value(sums[:, :width]) - value(sums[:, width:]))
    return np.concatenate(drops)


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
