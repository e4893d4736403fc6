"""Ranges of activations, from what a calibration pass has seen of them.

All methods read the same statistics, so that trying another one costs no further pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from edgecompress.quantization.observe.histograms import Seen

Method = Literal["minmax", "average", "percentile", "entropy", "mse"]
Ranges = dict[str, tuple[float, float]]
Array = np.ndarray[Any, Any]

LEVELS = 128  # what is left of 8 bits on each side of zero
STRIDE = 4  # every fourth threshold is tried; neighbours differ by 0.2 % of the range
SMALLEST_SHARE = 1e-9  # stands in for empty bins, so that the divergence stays finite
MASKING = 1e4
"""What masks add to hide a position begins here: −10,000 in BERT's first code."""
SHRINKS = np.linspace(0.2, 1.0, 81)


def find_ranges(
    seen: Mapping[str, Seen], method: Method = "minmax", percentile: float = 99.99
) -> Ranges:
    """Find the range of every tensor.

    Parameters
    ----------
    seen : mapping of str to Seen
    method : str
        ``minmax``: all that was seen; ``average``: from the mean of the samples' lowest values to
        that of their highest; ``percentile``: `percentile` per cent of the values, the rest cut in
        equal parts at both ends; ``entropy``: least Kullback-Leibler divergence between the values
        and their 8-bit form (S. Migacz, "8-bit inference with TensorRT", GTC 2017); ``mse``: least
        squared error of the 8-bit form (Choukroun et al., 2019, "Low-bit quantization of neural
        networks for efficient inference").
    percentile : float

    Returns
    -------
    dict of str to (float, float)
        Never wider than what was seen; without those of `unfit_tensors`.
    """
    left = unfit_tensors(seen)
    find = {
        "minmax": lambda s: (s.low, s.high),
        "average": lambda s: (s.low_sum / s.samples, s.high_sum / s.samples),
        "percentile": lambda s: percentile_range(s, percentile),
        "entropy": entropy_range,
        "mse": mse_range,
    }[method]
    ranges = {
        name: find(found) for name, found in seen.items() if found.samples and name not in left
    }
    return {
        name: (max(low, seen[name].low), min(high, seen[name].high))
        for name, (low, high) in ranges.items()
    }


def unfit_tensors(seen: Mapping[str, Seen]) -> dict[str, str]:
    """Find the tensors that one range of 8 bits cannot hold, and say why.

    Those with a value that is not finite, and those whose range is that of a mask: an end beyond
    `MASKING`, and at least half of the values within one step of 255.
    """
    found: dict[str, str] = {}
    for name, one in seen.items():
        if not one.finite:
            found[name] = "its input has values that are not finite"
        elif one.samples and max(-one.low, one.high) >= MASKING and _mostly_one_step(one):
            found[name] = f"its input reaches {max(one.low, one.high, key=abs):.3g}, as masks do"
    return found


def _mostly_one_step(seen: Seen) -> bool:
    step = (max(seen.high, 0.0) - min(seen.low, 0.0)) / 255
    near = np.abs(seen.centres) <= step / 2
    inside = int(seen.counts[near].sum())
    return bool(inside >= seen.counts.sum() / 2)


def percentile_range(seen: Seen, percentile: float) -> tuple[float, float]:
    """Cut equal parts off both ends, so that `percentile` per cent of the values stay."""
    share = np.cumsum(seen.counts) / seen.counts.sum()
    cut = (100 - percentile) / 200
    first = int(np.searchsorted(share, cut, side="right"))
    last = int(np.searchsorted(share, 1 - cut, side="left"))
    edges = seen.edges
    return float(edges[first]), float(edges[min(last, len(share) - 1) + 1])


def entropy_range(seen: Seen) -> tuple[float, float]:
    """Clip magnitudes where 8 bits lose the least information."""
    half = len(seen.counts) // 2
    magnitudes = seen.counts[half:] + seen.counts[:half][::-1]
    used = int(np.flatnonzero(magnitudes)[-1]) + 1
    most = entropy_threshold(magnitudes[:used]) * seen.limit / half
    return -most, most


def entropy_threshold(counts: Array) -> int:
    """Find how many bins to keep so that 8 bits lose the least information.

    Parameters
    ----------
    counts : ndarray of int64, shape (bins,)
        Histogram of absolute values from 0.
    """
    counts = counts.astype(np.float64)
    total = counts.sum()
    best, chosen = np.inf, len(counts)
    for size in range(min(LEVELS, len(counts)), len(counts) + 1, STRIDE):
        inside = counts[:size]
        reference = inside.copy()
        reference[-1] += counts[size:].sum()
        # Merge into LEVELS groups, then spread each group over its bins that are not empty.
        group = np.arange(size) * LEVELS // size
        filled = inside > 0
        sums = np.bincount(group, inside, LEVELS)
        members = np.maximum(np.bincount(group, filled, LEVELS), 1)
        quantized = np.where(filled, (sums / members)[group], 0.0)
        p = np.maximum(reference / total, SMALLEST_SHARE)
        q = np.maximum(quantized / max(quantized.sum(), 1.0), SMALLEST_SHARE)
        divergence = float(np.sum(p * np.log(p / q)))
        if divergence < best:
            best, chosen = divergence, size
    return chosen


def mse_range(seen: Seen) -> tuple[float, float]:
    """Shrink the range of all that was seen to where the squared error of uint8 is least."""
    used = np.flatnonzero(seen.counts)
    values, weights = seen.centres[used], seen.counts[used].astype(np.float64)
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    best, chosen = np.inf, (low, high)
    for shrink in SHRINKS:
        scale = (high - low) * shrink / 255
        if scale <= 0:
            continue
        zero = np.round(-low * shrink / scale)
        codes = np.clip(np.round(values / scale) + zero, 0, 255)
        error = float(np.sum(weights * np.square((codes - zero) * scale - values)))
        if error <= best:  # the wider of equals
            best, chosen = error, (low * shrink, high * shrink)
    return chosen


def ranges_json(ranges: Mapping[str, tuple[float, float]]) -> dict[str, list[float]]:
    """Ranges as a stage records them: replayable, in single precision's digits."""
    return {name: [float(np.float32(end)) for end in pair] for name, pair in ranges.items()}
