"""How good answers are by declared metrics: over all, and for every data file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgecompress.metrics import Metric
from edgecompress.tasks.answers import Answers, Score
from edgecompress.values import Example


def counts_of(
    metric: Metric, answers: Answers, examples: Sequence[Example]
) -> NDArray[np.float64] | None:
    """Give what a metric sums up, float64 (examples, k); None where it is no sum."""
    if metric.counts is None:
        return None
    if metric.together:
        return np.asarray(metric.counts(answers, examples), np.float64)
    pairs = zip(answers, examples, strict=True)
    return np.array([metric.counts(answer, example) for answer, example in pairs], np.float64)


def value_of(
    metric: Metric,
    answers: Answers,
    examples: Sequence[Example],
    labels: Sequence[str],
    counts: NDArray[np.float64] | None = None,
) -> tuple[float, int]:
    """Give a metric of answers and how many answers stand behind it; 0 where there are none.

    Parameters
    ----------
    counts : float64 (examples, k), optional
        From `counts_of`, where they are known already.
    """
    if metric.whole is not None:
        return metric.whole(answers, examples, labels)
    if not examples:
        return 0.0, 0
    found = counts_of(metric, answers, examples) if counts is None else counts
    if found is None or metric.value is None:
        raise TypeError(f"metric {metric.name!r} declares neither counts and value nor whole")
    # Column by column: numpy's sums of contiguous numbers are pairwise, and so more exact.
    sums = np.ascontiguousarray(found.T).sum(axis=1)
    return float(metric.value(sums)), len(examples)


def scores(
    metrics: Sequence[Metric],
    answers: Answers,
    examples: Sequence[Example],
    labels: Sequence[str],
    parts: Sequence[Score] = (),
) -> list[Score]:
    """Score answers by every metric over all, then give `parts`, then the scores by data file."""
    # Metrics that sum up the same are counted once.
    first = {metric.counts: metric for metric in metrics}
    each = {key: counts_of(metric, answers, examples) for key, metric in first.items()}
    counts = [each[metric.counts] for metric in metrics]
    out = []
    for metric, known in zip(metrics, counts, strict=True):
        value, samples = value_of(metric, answers, examples, labels, known)
        out.append(Score(metric.name, value, samples=samples))
    out += parts
    for source, numbers in by_source(examples).items():
        some = [examples[number] for number in numbers]
        for metric, known in zip(metrics, counts, strict=True):
            if metric.by_file:
                part = None if known is None else known[numbers]
                value, _ = value_of(metric, answers.part(numbers), some, labels, part)
                out.append(Score(metric.name, value, f"file:{source}", len(numbers)))
    return out


def by_source(examples: Sequence[Example]) -> dict[str, list[int]]:
    """Group the examples by data file: their indices, files in the order of first sight."""
    result: dict[str, list[int]] = {}
    for number, example in enumerate(examples):
        if example.source:
            result.setdefault(example.source, []).append(number)
    return result
