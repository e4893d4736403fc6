"""Two models' answers side by side: how often they agree, and how much one loses.

Resampling works on the counts per example that a task's metric is made of, so that a thousand
resamples cost two sums and no second reading of the answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecompress.errors import DataError
from edgecompress.tasks.base import Answers, Task
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
    task: Task,
    reference: Answers,
    answers: Answers,
    examples: Sequence[Example],
    seed: int,
    resamples: int = 1000,
) -> tuple[float, float, float]:
    """How much of the task's primary metric is lost against `reference`, with its interval.

    Examples are drawn with replacement, the same ones for both models: Efron & Tibshirani 1993,
    "An Introduction to the Bootstrap", percentile interval; for paired systems Koehn 2004,
    "Statistical Significance Tests for Machine Translation Evaluation".

    Parameters
    ----------
    reference, answers : Answers
        To the same examples: the teacher's, and the candidate's.
    seed : int
    resamples : int

    Returns
    -------
    drop, low, high : float
        Reference minus candidate, a fraction; positive where the candidate is worse; and the
        bounds of the 95 % interval.

    Raises
    ------
    DataError
        When there are no examples.
    """
    if not examples:
        raise DataError("no examples to compare two models on; name a split that is not empty")
    before, statistic = task.statistics(reference, examples)
    after, _ = task.statistics(answers, examples)
    drop = float(statistic(before.sum(0)) - statistic(after.sum(0)))
    both = np.concatenate((before, after), axis=1)
    width = before.shape[1]
    size = len(examples)
    generator = np.random.default_rng(seed)
    drops = []
    chunk = max(1, CELLS // size)
    for start in range(0, resamples, chunk):
        count = min(chunk, resamples - start)
        drawn = generator.integers(0, size, (count, size))
        drawn += np.arange(count)[:, None] * size  # a range of its own per resample
        times = np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size)
        sums = times.astype(np.float64) @ both
        drops.append(statistic(sums[:, :width]) - statistic(sums[:, width:]))
    low, high = np.percentile(np.concatenate(drops), (2.5, 97.5))
    return drop, float(low), float(high)
