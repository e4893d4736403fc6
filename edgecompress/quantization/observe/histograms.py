"""One pass over calibration samples that serves every way of finding a range.

Each sample is run alone and unpadded, so padding is never counted, and what is kept of a tensor is
its lowest and highest value and one histogram: memory does not grow with the number of samples.
(ONNX Runtime's own percentile and entropy calibrators keep every activation of every sample.)

A histogram covers [-limit, limit], where the limit is a power of two. A value beyond it doubles the
limit, and each two bins become one. Edges of a coarse histogram are edges of every finer one, so
the counts depend neither on the order of the samples nor on where the pass was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from edgecompress.quantization.observe.observing import observed
from edgecompress.values import Feed, OnnxModel

Array = np.ndarray[Any, Any]

BINS = 8192
"""At least half of them lie within what was seen, on one side at least a quarter: the 2048 of
NVIDIA's calibrator (S. Migacz, "8-bit inference with TensorRT", GTC 2017)."""
LEAST_EXPONENT = -100
"""Values of less than 2^-100 are counted as 0: float32 could not hold the bins' inverse width."""
SAVE_EVERY = 32
"""Samples between two saved states of a pass."""


@dataclass(slots=True)
class Seen:
    """What is kept of one tensor; both ends are NaN once a value of it was not finite.

    Attributes
    ----------
    low, high : float
        Of all values.
    low_sum, high_sum : float
        Sums of each sample's lowest and highest value; for their means.
    samples : int
    exponent : int
        The histogram covers [-2^exponent, 2^exponent].
    counts : ndarray, int64, shape (BINS,)
    """

    low: float = np.inf
    high: float = -np.inf
    low_sum: float = 0.0
    high_sum: float = 0.0
    samples: int = 0
    exponent: int = LEAST_EXPONENT
    counts: Array = field(default_factory=lambda: np.zeros(BINS, np.int64))

    @property
    def finite(self) -> bool:
        """Whether all values were finite."""
        return not np.isnan(self.low)

    @property
    def limit(self) -> float:
        """Where the histogram ends on both sides."""
        return float(2.0**self.exponent)

    @property
    def edges(self) -> Array:
        """Edges of the histogram's bins: float64, shape (BINS + 1,)."""
        return np.linspace(-self.limit, self.limit, BINS + 1)

    @property
    def centres(self) -> Array:
        """Middles of the histogram's bins: float64, shape (BINS,)."""
        return self.edges[:-1] + self.limit / BINS

    def add(self, values: Array) -> None:
        """Count the values (any shape, at least one) of one sample."""
        low, high = float(values.min()), float(values.max())  # NaN if one is
        if not self.finite or not np.isfinite(high - low):
            self.low = self.high = np.nan
            return
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.low_sum += low
        self.high_sum += high
        self.samples += 1
        self._widen(max(-low, high))
        scale = np.float32(BINS / 2 / self.limit)
        index = np.floor(values.ravel() * scale).astype(np.int32) + BINS // 2
        self.counts += np.bincount(np.clip(index, 0, BINS - 1), minlength=BINS)

    def _widen(self, most: float) -> None:
        """Double the limit until it holds `most`; each two bins become one."""
        needed = max(self.exponent, int(np.frexp(most)[1])) if most else self.exponent
        if not self.counts.any():
            self.exponent = needed
        while self.exponent < needed:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros(BINS, np.int64)
            self.counts[BINS // 4 : BINS // 4 + BINS // 2] = merged
            self.exponent += 1


def collect(
    model: OnnxModel,
    names: Sequence[str],
    feeds: Iterable[Feed],
    *,
    threads: int = 1,
    state: Path | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Seen]:
    """Run `model` on samples and keep what calibrators need of each of its outputs `names`.

    Parameters
    ----------
    model : OnnxModel
        What `observe` wrote.
    names : sequence of str
    feeds : iterable of dict
        The samples, the same in the same order each time. What ``attention_mask`` (batch, length)
        says is padding is left out of tensors of (batch, length, …) and (batch · length, …).
    threads : int
    state : Path, optional
        A file in which the pass is saved now and then, and from which it goes on.
    progress : callable
        Told the number of samples done.

    Raises
    ------
    StageError
        When there is no sample, or one does not fit the model or holds NaN or infinite values.
    """
    found, done = _resume(state, names)
    for count, values in observed(model, names, feeds, threads=threads, done=done):
        for name, array in values.items():
            if array.size:
                found[name].add(array)
        progress(count)
        if state is not None and count % SAVE_EVERY == 0:
            save_seen(found, state, count)
    return found


def save_seen(found: Mapping[str, Seen], file: Path, done: int) -> None:
    """Write what was seen after `done` samples, aside and then renamed."""
    names = list(found)
    seen = [found[name] for name in names]
    aside = file.with_name(f".{file.name}.aside.npz")
    np.savez_compressed(
        aside,
        done=np.array(done),
        names=np.array(names, dtype=np.str_),
        ends=np.array([[s.low, s.high, s.low_sum, s.high_sum] for s in seen]).reshape(-1, 4),
        numbers=np.array([[s.samples, s.exponent] for s in seen], np.int64).reshape(-1, 2),
        counts=np.array([s.counts for s in seen]).reshape(-1, BINS),
    )
    aside.replace(file)


def load_seen(file: Path) -> tuple[dict[str, Seen], int]:
    """Read what `save_seen` wrote, and after how many samples.

    Raises
    ------
    OSError, ValueError, KeyError, BadZipFile
        When the file is missing or damaged.
    """
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as saved:
        found = {
            str(name): Seen(
                low=float(ends[0]),
                high=float(ends[1]),
                low_sum=float(ends[2]),
                high_sum=float(ends[3]),
                samples=int(numbers[0]),
                exponent=int(numbers[1]),
                counts=counts,
            )
            for name, ends, numbers, counts in zip(
                saved["names"], saved["ends"], saved["numbers"], saved["counts"], strict=True
            )
        }
        return found, int(saved["done"])


def _resume(state: Path | None, names: Sequence[str]) -> tuple[dict[str, Seen], int]:
    if state is not None and state.is_file():
        try:
            found, done = load_seen(state)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            found, done = {}, 0  # cut off while it was written by an older process: begin again
        if list(found) == list(names):
            return found, done
    return {name: Seen() for name in names}, 0
