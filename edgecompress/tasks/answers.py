"""What a model said, and how good that was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, slots=True)
class Answer:
    """What a model said of one example: its labels, and float64 (labels,) how sure it was."""

    labels: tuple[str, ...]
    confidence: NDArray[np.float64]


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
    """

    labels: tuple[tuple[str, ...], ...]
    confidence: tuple[NDArray[np.float64], ...]

    def __iter__(self) -> Iterator[Answer]:
        """Give the answer to each example."""
        return map(Answer, self.labels, self.confidence)

    def part(self, numbers: Sequence[int]) -> Answers:
        """Give the answers to some of the examples."""
        return Answers(
            tuple(self.labels[number] for number in numbers),
            tuple(self.confidence[number] for number in numbers),
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
