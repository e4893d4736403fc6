"""Measure the ranges of activations, in memory that does not grow with the number of samples.

Each sample is run alone and unpadded, so no padding is ever counted. Minimum and maximum come from
a first pass; percentiles and entropy from a second one that fills one histogram per tensor.
(ONNX Runtime's own percentile and entropy calibrators keep every activation of every sample.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from onnx import TensorProto, helper

from edgecompress.errors import StageError
from edgecompress.quantization.layers import name_nodes
from edgecompress.quantization.session import Feed, open_session
from edgecompress.quantization.storage import read_model, write_model
from edgecompress.values import OnnxModel

Method = Literal["minmax", "percentile", "entropy"]
Ranges = dict[str, tuple[float, float]]
Array = np.ndarray[Any, Any]

BINS = 2048  # as NVIDIA's calibrator
LEVELS = 128  # what is left of 8 bits on each side of zero
STRIDE = 4  # every fourth threshold is tried; neighbours differ by 0.05 % of the range
SMALLEST_SHARE = 1e-9  # stands in for empty bins, so that the divergence stays finite


def observe(model: OnnxModel, names: Sequence[str], folder: Path) -> OnnxModel:
    """Write a copy of `model` that gives the tensors `names` as further outputs.

    Raises
    ------
    StageError
        When a tensor is an input of the graph, which has no range to measure.
    """
    stored = read_model(model.path)
    name_nodes(stored)
    graph = stored.proto.graph
    for name in set(names) - {value.name for value in graph.output}:
        if name in {value.name for value in graph.input}:
            raise StageError(f"{name} is an input of the graph and cannot be calibrated")
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    folder.mkdir(parents=True, exist_ok=True)
    copy = OnnxModel(folder / "observed.onnx", model.session)
    write_model(stored, copy.path)
    return copy


def measure_ranges(
    model: OnnxModel,
    names: Sequence[str],
    feeds: Callable[[], Iterable[Feed]],
    method: Method = "minmax",
    percentile: float = 99.99,
    threads: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> Ranges:
    """Run `model` on samples and find the range of each of its outputs `names`.

    Parameters
    ----------
    model : OnnxModel
        What `observe` wrote.
    names : sequence of str
    feeds : callable
        Gives the samples anew each time; each has batch 1 and no padding.
    method : str
        ``minmax``: all that was seen; ``percentile``: `percentile` per cent of the values, the
        rest cut in equal parts at both ends; ``entropy``: least Kullback-Leibler divergence
        between the values and their 8-bit form (S. Migacz, "8-bit inference with TensorRT",
        GTC 2017).
    percentile : float
    threads : int
    progress : callable
        Called after each sample.

    Returns
    -------
    dict of str to (float, float)

    Raises
    ------
    StageError
        When there is no sample, or an activation is not finite.
    """
    session = open_session(model, threads)
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for feed in feeds():
        for name, values in zip(names, session.run(list(names), feed), strict=True):
            low[name] = min(low.get(name, np.inf), float(values.min()))
            high[name] = max(high.get(name, -np.inf), float(values.max()))
        progress("ranges")
    if not low and names:
        raise StageError("no sample to calibrate with")
    for name in names:
        if not np.isfinite([low[name], high[name]]).all():
            raise StageError(f"the activation {name} is not finite: it cannot be quantized")
    if method == "minmax":
        return {name: (low[name], high[name]) for name in names}
    bounds = {name: (low[name], high[name]) for name in names}
    if method == "entropy":
        bounds = {name: (0.0, max(-low[name], high[name])) for name in names}
    counts = {name: np.zeros(BINS, np.int64) for name in names}
    for feed in feeds():
        for name, values in zip(names, session.run(list(names), feed), strict=True):
            data = np.abs(values) if method == "entropy" else values
            counts[name] += histogram(data, *bounds[name])
        progress("histograms")
    found: Ranges = {}
    for name in names:
        if method == "percentile":
            found[name] = percentile_range(counts[name], *bounds[name], percentile)
        else:
            most = entropy_threshold(counts[name], bounds[name][1])
            found[name] = (max(low[name], -most), min(high[name], most))
    return found


def histogram(values: Array, low: float, high: float) -> Array:
    """Count `values` (any shape) in `BINS` equal bins over [low, high]: int64, shape (BINS,)."""
    width = (high - low) / BINS or 1.0
    index = ((values.ravel() - np.float32(low)) * np.float32(1 / width)).astype(np.int32)
    return np.bincount(np.clip(index, 0, BINS - 1), minlength=BINS)


def percentile_range(
    counts: Array, low: float, high: float, percentile: float
) -> tuple[float, float]:
    """Cut equal parts off both ends of a histogram, so that `percentile` per cent stay.

    Parameters
    ----------
    counts : ndarray of int64, shape (bins,)
        Over [low, high].
    low, high : float
    percentile : float
    """
    edges = np.linspace(low, high, len(counts) + 1)
    share = np.cumsum(counts) / counts.sum()
    cut = (100 - percentile) / 200
    first = int(np.searchsorted(share, cut, side="right"))
    last = int(np.searchsorted(share, 1 - cut, side="left"))
    return float(edges[first]), float(edges[min(last, len(counts) - 1) + 1])


def entropy_threshold(counts: Array, high: float) -> float:
    """Find where to clip magnitudes so that 8 bits lose the least information.

    Parameters
    ----------
    counts : ndarray of int64, shape (bins,)
        Histogram of absolute values over [0, high].
    high : float
    """
    counts = counts.astype(np.float64)
    total = counts.sum()
    best, chosen = np.inf, len(counts)
    for size in range(LEVELS, len(counts) + 1, STRIDE):
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
    return high * chosen / len(counts)


def ranges_json(ranges: Mapping[str, tuple[float, float]]) -> dict[str, list[float]]:
    """Ranges as a stage records them: replayable, in single precision's digits."""
    return {name: [float(np.float32(end)) for end in pair] for name, pair in ranges.items()}
