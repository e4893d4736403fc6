"""How soon vectors find what answers a query: reciprocal rank, and recall among the first k."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.metrics import ANSWERS, Metric
from edgecompress.tasks.answers import Answers
from edgecompress.values import Example

Floats = NDArray[np.floating[Any]]
AT = (1, 5, 10)


def texts_under(example: Example, name: str) -> tuple[str, ...]:
    """Give the texts of an input that may be one or several."""
    found = example.inputs.get(name, ())
    return (found,) if isinstance(found, str) else tuple(found)


def ranks_of(answers: Answers, examples: Sequence[Example]) -> list[NDArray[np.float64]]:
    """Give the rank of each text that answers a query, float64 (positives,), from 1.

    Searched are all texts of all examples, by the cosine of their vectors. Texts that are as near
    share their mean rank. An example without a query has none.
    """
    place: dict[str, int] = {}
    vectors: list[Floats] = []
    for example, details in zip(examples, answers.details, strict=True):
        if "query" not in example.inputs:
            continue
        every = (*texts_under(example, "positives"), *texts_under(example, "negatives"))
        for text, vector in zip(every, details["vectors"][1:], strict=True):
            if text not in place:
                place[text] = len(vectors)
                vectors.append(vector)
    if not vectors:
        return [np.zeros(0) for _ in examples]
    corpus = _unit(np.stack(vectors))
    found = []
    for example, details in zip(examples, answers.details, strict=True):
        if "query" not in example.inputs:
            found.append(np.zeros(0))
            continue
        near = corpus @ _unit(details["vectors"][:1])[0]
        own = near[[place[text] for text in texts_under(example, "positives")]]
        above = (near[None, :] > own[:, None]).sum(1)
        same = (near[None, :] == own[:, None]).sum(1)
        found.append(above + (same + 1) / 2)
    return found


def _unit(vectors: Floats) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: NDArray[np.float64] = wide / np.where(lengths > 0, lengths, 1)
    return unit


def found_at(answers: Answers, examples: Sequence[Example]) -> NDArray[np.float64]:
    """Count of each query what all metrics here sum up, float64 (examples, 2 + len(AT)).

    Whether there is one, the reciprocal of its best rank, and its recall at each of `AT`.
    """
    rows = [
        [1, 1 / one.min(), *(np.mean(one <= most) for most in AT)]
        if len(one)
        else [0] * (2 + len(AT))
        for one in ranks_of(answers, examples)
    ]
    return np.array(rows, np.float64).reshape(len(rows), 2 + len(AT))


def _mean(column: int, counts: Floats) -> Floats:
    found: Floats = counts[..., column] / np.maximum(counts[..., 0], 1)
    return found


def _metric(name: str, title: str, meaning: str, column: int, best: str) -> Metric:
    return Metric(
        name, title, meaning, higher_is_better=True, needs=ANSWERS, best=best, by_file=bool(best),
        counts=found_at, value=functools.partial(_mean, column), together=True,
    )  # fmt: skip


MRR = _metric(
    "mrr", "MRR", "mean of 1 over the rank of the first text that answers a query", 1,
    "most accurate",
)  # fmt: skip
RECALLS = tuple(
    _metric(
        f"recall_at_{most}", f"Recall at {most}",
        f"share of the texts that answer a query among the {most} nearest", column, "",
    )
    for column, most in enumerate(AT, start=2)
)  # fmt: skip
