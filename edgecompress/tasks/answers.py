"""What a model said, and how good that was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class Answer:
    """What a model said of one example: its labels, and float64 (labels,) how sure it was.

    `details` are what else a task tells of it, by its own names.
    """

    labels: tuple[str, ...]
    confidence: NDArray[np.float64]
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing of several that were found, such as an entity: what it is, and where.

    `words` say it to a person; `data` are keys and values of it in JSON. Equal findings agree.
    """

    words: str
    data: tuple[tuple[str, Any], ...]


Findings = str | tuple[Finding, ...]
"""What of an answer is compared with another's."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model said of each example.

    Attributes
    ----------
    labels : tuple of tuple of str
        Per example: one label per word, or exactly one.
    confidence : tuple of float64 (labels,)
        Per example: the softmax probability of each of these labels; 1 for a word that the
        tokenizer gave no piece for, which is answered by rule.
    details : tuple of mapping
        Per example: what else the task tells of it; empty where there is nothing to any.
    """

    labels: tuple[tuple[str, ...], ...]
    confidence: tuple[NDArray[np.float64], ...]
    details: tuple[Mapping[str, Any], ...] = ()

    def __iter__(self) -> Iterator[Answer]:
        """Give the answer to each example."""
        return map(Answer, self.labels, self.confidence, self.details or repeat({}))

    def part(self, numbers: Sequence[int]) -> Answers:
        """Give the answers to some of the examples."""
        return Answers(
            tuple(self.labels[number] for number in numbers),
            tuple(self.confidence[number] for number in numbers),
            tuple(self.details[number] for number in numbers if self.details),
        )


def joined(answers: Sequence[Answer]) -> Answers:
    """Put the answers to several examples together."""
    return Answers(
        tuple(one.labels for one in answers),
        tuple(one.confidence for one in answers),
        tuple(one.details for one in answers),
    )


@dataclass(frozen=True, slots=True)
class Score:
    """One figure of how good answers are, in its metric's unit, over all or a `slice` of them.

    `slice` is None, ``label:PER`` or ``file:hau``; `samples` counts the examples (or, for a
    label, the gold spans or examples) behind `value`.
    """

    metric: str
    value: float
    slice: str | None = None
    samples: int = 1
