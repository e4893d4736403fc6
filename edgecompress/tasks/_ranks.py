"""How soon vectors find what answers a query: reciprocal rank, and recall among the first k."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.metrics import ANSWERS, Metric
from edgecompress.tasks.answers import Answers
from edgecompress.values import Example

Floats = NDArray[np.floating[Any]]
AT = (1, 5, 10)


def listed(example: Example, name: str) -> tuple[str, ...]:
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
        every = (*listed(example, "positives"), *listed(example, "negatives"))
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
        own = near[[place[text] for text in listed(example, "positives")]]
        above = (near[None, :] > own[:, None]).sum(1)
        same = (near[None, :] == own[:, None]).sum(1)
        found.append(above + (same + 1) / 2)
    return found


def _unit(vectors: Floats) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: NDArray[np.float64] = wide / np.where(lengths > 0, lengths, 1)
    return unit


def _reciprocal(answers: Answers, examples: Sequence[Example]) -> NDArray[np.float64]:
    every = ranks_of(answers, examples)
    return np.array([(1 / one.min(), 1) if len(one) else (0, 0) for one in every], np.float64)


def _recall(most: int, answers: Answers, examples: Sequence[Example]) -> NDArray[np.float64]:
    every = ranks_of(answers, examples)
    return np.array(
        [(np.mean(one <= most), 1) if len(one) else (0, 0) for one in every], np.float64
    )


def _mean(counts: Floats) -> Floats:
    found: Floats = counts[..., 0] / np.maximum(counts[..., 1], 1)
    return found


def _metric(name: str, title: str, meaning: str, counts: Callable[..., Any], best: str) -> Metric:
    return Metric(
        name, title, meaning, higher_is_better=True, needs=ANSWERS, best=best, by_file=bool(best),
        counts=counts, value=_mean, together=True,
    )  # fmt: skip


MRR = _metric(
    "mrr", "MRR", "mean of 1 over the rank of the first text that answers a query", _reciprocal,
    "most accurate",
)  # fmt: skip
RECALLS = tuple(
    _metric(
        f"recall_at_{most}", f"Recall at {most}",
        f"share of the texts that answer a query among the {most} nearest",
        functools.partial(_recall, most), "",
    )
    for most in AT
)  # fmt: skip
