"""How far a model's outputs lie from those of another, and what that does to the task's metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecompress.errors import DataError
from edgecompress.models.session import numbers
from edgecompress.tasks import Rows
from edgecompress.values import Example, Feed

Array = np.ndarray[Any, Any]
Run = Callable[[Feed], list[Array]]
"""Give a model's outputs for one sample."""


@dataclass(frozen=True, slots=True)
class ComparedSamples:
    """What models are compared on: inputs, and where a task is known what their answers should be.

    Attributes
    ----------
    feeds : tuple of dict of str to ndarray
        One per sample, without padding.
    rows : Rows or None
        The encoded examples, one per feed.
    examples : tuple of Example
        With labels; empty where a metric cannot be taken.
    labels : tuple of str
        The model's classes.
    """

    feeds: tuple[Feed, ...]
    rows: Rows | None = None
    examples: tuple[Example, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def metric(self) -> str | None:
        """Name of the task's metric; None where there is no label to compare with."""
        return self.rows.task.metrics[0].name if self.rows is not None and self.examples else None

    def score(self, logits: Iterable[Array]) -> float | None:
        """Give the task's metric of the first outputs, (1, …) each; None where there is none."""
        if self.rows is None or not self.examples:
            return None
        kind = self.rows.task
        kept = [kind.compact(one[0], row) for row, one in zip(self.rows, logits, strict=True)]
        return kind.quality(kind.decode(kept, self.rows), self.examples, self.labels)


def judged(rows: Rows, examples: Sequence[Example]) -> tuple[Example, ...]:
    """Give the examples of rows if their task's metric can be taken of them, and else none."""
    try:
        rows.task.check_judged(examples)
    except DataError:
        return ()
    labelled = all(example.target is not None for example in examples)
    return tuple(examples) if labelled or not rows.task.labelled else ()


@dataclass(frozen=True, slots=True)
class Cost:
    """What a changed model loses.

    Attributes
    ----------
    error : float
        Squared error of all outputs over their variance in fp32: 0 is the same, 1 as bad as their
        mean.
    kl : float or None
        Mean Kullback-Leibler divergence of the answers' probabilities from those in fp32, in nats.
    drop : float or None
        What the metric in fp32 exceeds the metric by, a fraction.
    """

    error: float
    kl: float | None = None
    drop: float | None = None


class OutputJudge:
    """Compares models with the fp32 outputs that it keeps.

    Parameters
    ----------
    samples : ComparedSamples
    run : callable
        The fp32 model.
    """

    def __init__(self, samples: ComparedSamples, run: Run) -> None:
        self.samples = samples
        self.expected = [run(feed) for feed in samples.feeds]
        flat = [_floats(found) for found in self.expected]
        total = sum(len(one) for one in flat)
        mean = sum(float(one.sum()) for one in flat) / max(total, 1)
        self.variance = sum(float(np.square(one - mean).sum()) for one in flat)
        self.reference = samples.score([found[0] for found in self.expected])

    def cost(self, run: Run, progress: Callable[[], None] = lambda: None) -> Cost:
        """Run another model on all samples and compare; `progress` is told after each."""
        squared, divergence, positions = 0.0, 0.0, 0
        logits = []
        for feed, before in zip(self.samples.feeds, self.expected, strict=True):
            after = run(feed)
            gap = np.square(_floats(after) - _floats(before)).sum()
            squared += float(gap) if np.isfinite(gap) else float("inf")
            if self.samples.rows is not None:
                each = _divergence(before[0], after[0])
                divergence += float(each.sum())
                positions += each.size
                logits.append(after[0])
            progress()
        error = squared / self.variance if self.variance > 0 else squared
        kl = divergence / positions if positions else None
        return Cost(error, kl, self._drop(logits))

    def _drop(self, logits: Sequence[Array]) -> float | None:
        if self.reference is None:
            return None
        if not all(np.isfinite(one).all() for one in logits):
            return self.reference  # no answer can be read: all is lost
        score = self.samples.score(logits)
        return None if score is None else self.reference - score


def _floats(outputs: Sequence[Array]) -> Array:
    """Flatten all outputs of floating point to float64."""
    kept = [one.ravel().astype(np.float64) for one in numbers(outputs) if one.dtype.kind == "f"]
    return np.concatenate(kept) if kept else np.zeros(0)


def _divergence(before: Array, after: Array) -> Array:
    """KL(before || after) over the last axis of logits (1, …, classes), in nats."""
    p, q = _log_softmax(before), _log_softmax(after)
    return np.asarray(np.sum(np.exp(p) * (p - q), axis=-1))


def _log_softmax(logits: Array) -> Array:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))
