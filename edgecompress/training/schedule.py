"""How long and how fast a model is trained, and in which batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgecompress.training.gradual_fields import Gradual
from edgecompress.training.lora_fields import Lora
from edgecompress.training.qat_fields import Qat

BUCKET_BATCHES = 50
"""Rows are sorted by length within groups of this many batches: little padding, and still random.
(The figure is that of transformers' LengthGroupedSampler.)"""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to train.

    Attributes
    ----------
    epochs : int
    learning_rate : float
        Peak of a linear warm-up from 0 and a decay to 0.
    batch_size : int
        Rows a step.
    weight_decay : float
        AdamW's decoupled decay (Loshchilov & Hutter, 2019), on matrices that are no embeddings.
    warmup : float
        Share of all steps that warm up.
    max_gradient_norm : float
        The gradient's norm over all parameters is clipped to this.
    patience : int or None
        Stop after this many epochs without a better score; None trains all epochs.
    decay : str
        ``linear`` or ``cosine``: how the learning rate falls after the warm-up.
    batch_tokens : int or None
        Tokens a step, padding included, instead of `batch_size` rows.
    gradual : Gradual or None
        What `fit` prunes on the way.
    qat : Qat or None
        How `fit` rounds what is trained.
    batch_norms : str
        ``kept`` or ``trained``: where `fit` takes the means of batch normalizations from.
    lora : Lora or None
        What `fit` trains in the place of the matrices.
    """

    epochs: int
    learning_rate: float
    batch_size: int
    weight_decay: float = 0.01
    warmup: float = 0.1
    max_gradient_norm: float = 1.0
    patience: int | None = None
    decay: Literal["linear", "cosine"] = "linear"
    batch_tokens: int | None = None
    gradual: Gradual | None = None
    qat: Qat | None = None
    batch_norms: Literal["kept", "trained"] = "kept"
    lora: Lora | None = None


def learning_rate(schedule: Schedule, step: int, total: int) -> float:
    """Learning rate of step `step` (from 0) of `total`: linear warm-up, then the decay to 0.

    The cosine is that of Loshchilov & Hutter, 2017, "SGDR", without restarts.
    """
    warm = int(schedule.warmup * total)
    if step < warm:
        return schedule.learning_rate * (step + 1) / warm
    left = (total - step) / max(1, total - warm)
    if schedule.decay == "cosine":
        left = (1 - math.cos(math.pi * left)) / 2
    return schedule.learning_rate * left


def batches(lengths: np.ndarray, schedule: Schedule, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Give the row numbers of each batch of an epoch: every row once, similar lengths together.

    Parameters
    ----------
    lengths : numpy.ndarray
        int64, shape (rows,).
    schedule : Schedule
        Its `batch_size`, or its `batch_tokens` where it has one.

    Yields
    ------
    numpy.ndarray
        int64, shape (batch,); the same for the same seed and epoch.
    """
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths))
    size, tokens = schedule.batch_size, schedule.batch_tokens
    if tokens is not None:
        size = max(1, int(tokens / max(1.0, float(lengths.mean()))))
    group = size * BUCKET_BATCHES
    found: list[np.ndarray] = []
    for start in range(0, len(order), group):
        rows = order[start : start + group]
        if tokens is None:
            found += of_like_length(rows, lengths, size)
        else:
            rows = rows[np.argsort(lengths[rows], kind="stable")]
            found += _cut(rows, lengths[rows], tokens)
    for index in random.permutation(len(found)):
        yield found[index]


def of_like_length(rows: np.ndarray, lengths: np.ndarray, size: int) -> list[np.ndarray]:
    """Divide rows, by their numbers, into batches of `size` from the shortest to the longest."""
    rows = rows[np.argsort(lengths[rows], kind="stable")]
    return [rows[at : at + size] for at in range(0, len(rows), size)]


def _cut(rows: np.ndarray, lengths: np.ndarray, tokens: int) -> list[np.ndarray]:
    """Divide rows of ascending length so that none of the parts, padded, has more than `tokens`.

    A row that is longer than that stands alone.
    """
    found, start = [], 0
    for at in range(1, len(rows) + 1):
        if at == len(rows) or (at + 1 - start) * int(lengths[at]) > tokens:
            found.append(rows[start:at])
            start = at
    return found
