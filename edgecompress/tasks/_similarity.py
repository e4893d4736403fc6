"""Similarities of vectors, and how well they follow what people say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import DataError
from edgecompress.metrics import ANSWERS, Metric
from edgecompress.tables import Need
from edgecompress.tasks.answers import Answer, Answers
from edgecompress.tasks.base import Floor, Task
from edgecompress.values import Example

Floats = NDArray[np.floating[Any]]


def cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Give the cosine of two vectors, float (width,) each; 0 where one has no length."""
    lengths = float(np.linalg.norm(a.astype(np.float64)) * np.linalg.norm(b.astype(np.float64)))
    return float(a.astype(np.float64) @ b.astype(np.float64)) / lengths if lengths else 0.0


def ranks(values: Floats) -> NDArray[np.float64]:
    """Give the rank of each value from 1, float64 (values,); equal values share the mean rank."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    found: NDArray[np.float64] = middle[group]
    return found


def correlation(a: Floats, b: Floats) -> float:
    """Pearson's correlation of two rows of numbers; 0 where one of them does not vary."""
    if len(a) < 2:
        return 0.0
    x, y = a - np.mean(a), b - np.mean(b)
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 0 else 0.0


def spearman(answers: Answers, examples: Sequence[Example], _: Sequence[str]) -> tuple[float, int]:
    """Give the correlation of the ranks, and the number of pairs.

    Source: C. Spearman, 1904, "The proof and measurement of association between two things"; ties
    get their mean rank, as in scipy's `spearmanr`.
    """
    said, right = _scored(answers, examples)
    return correlation(ranks(said), ranks(right)), len(said)


def pearson(answers: Answers, examples: Sequence[Example], _: Sequence[str]) -> tuple[float, int]:
    """Give the correlation of the numbers themselves, and the number of pairs."""
    said, right = _scored(answers, examples)
    return correlation(said, right), len(said)


def check_scored(examples: Sequence[Example]) -> None:
    """Refuse examples none of which is a pair of texts with a score.

    Raises
    ------
    DataError
        Naming the columns that are wanted.
    """
    if examples and not any(map(is_scored, examples)):
        raise DataError(
            "no example is a pair of texts with a score, by which the model is judged; name its "
            "columns (data.columns: text, text_pair, score)"
        )


def is_scored(example: Example) -> bool:
    """Whether an example is a pair of texts that people gave a score."""
    return "text_pair" in example.inputs and isinstance(example.target, float)


def _scored(answers: Answers, examples: Sequence[Example]) -> tuple[Floats, Floats]:
    pairs = [
        (details["similarity"], example.target)
        for details, example in zip(answers.details, examples, strict=True)
        if is_scored(example)
    ]
    check_scored(examples)
    found = np.array(pairs, np.float64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


SPEARMAN = Metric(
    "spearman",
    "Spearman",
    "correlation of the ranks of the model's scores of pairs with those that people gave",
    higher_is_better=True, needs=ANSWERS, best="most accurate", whole=spearman,
)  # fmt: skip
PEARSON = Metric(
    "pearson",
    "Pearson",
    "correlation of the model's scores of pairs with those that people gave",
    higher_is_better=True, needs=ANSWERS, by_file=False, whole=pearson,
)  # fmt: skip


class ScoredPairs(Task):
    """What is judged by the scores that people gave pairs of texts."""

    metrics: ClassVar[tuple[Metric, ...]] = (SPEARMAN, PEARSON)
    labelled: ClassVar[bool] = False
    answers: ClassVar[Need] = "welcome"
    target: ClassVar[str] = "score"
    windows: ClassVar[str] = "of which only the first is read"

    def check_judged(self, examples: Sequence[Example]) -> None:
        """Refuse examples none of which is a pair with a score."""
        check_scored(examples)

    def floor(self, known: Sequence[Example], processor: Any) -> Floor | None:  # noqa: ARG002
        """Answer every pair alike: scores that do not vary follow nothing."""
        if not known:
            return None
        same = {"vectors": np.zeros((1, 0), np.float32), "similarity": np.float64(0)}

        def alike(examples: Sequence[Example]) -> Answers:
            count = len(examples)
            return Answers(((),) * count, (np.zeros(0),) * count, (same,) * count)

        return Floor("the same number for all pairs", "0", alike)

    def right(self, example: Example) -> Answer | None:  # noqa: ARG002
        """Give none: a score orders pairs, and is no answer itself."""
        return None
