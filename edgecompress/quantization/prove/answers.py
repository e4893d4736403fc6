"""Whether a changed model's outputs are still answers: those of the fp32 model, nearly.

Both models run the same few samples, one model after the other, and only their outputs are kept.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecompress.models.runner import open_onnx
from edgecompress.quantization.observe.observing import without_padding
from edgecompress.values import Feed, Json, OnnxModel

Array = np.ndarray[Any, Any]

LARGEST_ERROR = 0.7
"""Root mean square of an output's error over its standard deviation in fp32. At 1 the mean of
fp32's values is as good an answer; docs/quantization.md has what good and bad models reach."""
LEAST_DEVIATION = 0.5
"""Of the root mean square: an output that hardly varies on these samples is judged by its size."""
MOST_CONSTANT = 0.2
"""Share of an output's channels (indices along one axis) that may be constant where fp32 varies."""
VARIES = 0.05
"""Standard deviation over root mean square from which on values are said to vary …"""
LEAST_VALUES = 8
"""… if there are so many."""
LEAST_SIZE = 1e-6
"""A channel that varies by less is left out: 16 bits do not hold it."""
M_MMAP_THRESHOLD, LARGE_BLOCK = -3, 1 << 17
"""The number of the setting in malloc.h, and its value when a process begins."""
MOST_SECONDS = 10.0
"""No further sample is run after this time."""
MOST_BYTES = 1 << 26
"""Nor after so many bytes of outputs."""


@dataclass(frozen=True, slots=True)
class OutputError:
    """How far one output lies from fp32's.

    Attributes
    ----------
    name : str
    error : float or None
        Root mean square of the difference over the standard deviation in fp32 (at least half of its
        root mean square); of whole numbers the share that differs. None where nothing can be
        compared.
    largest : float or None
        Largest absolute difference.
    fault : str
        Why these are no answers any more; empty where they are.
    """

    name: str
    error: float | None
    largest: float | None
    fault: str = ""

    def to_json(self) -> Json:
        """Give it as a step records what it measured."""
        return {"error": self.error, "largest": self.largest}


def outputs_of(
    model: OnnxModel, feeds: Sequence[Feed], *, reference: bool = False
) -> tuple[list[str], list[list[Array]]]:
    """Run a model on samples.

    The `reference` in fp32 stops after `MOST_SECONDS` or `MOST_BYTES`, and keeps its weights as
    they lie in the file: a second copy, packed for speed, would be the most that quantizing needs.

    Returns
    -------
    names : list of str
        Of the outputs.
    found : list of list of ndarray
        For each sample that was run, the outputs without what is padding.

    Raises
    ------
    StageError
        When ONNX Runtime cannot load or run it.
    """
    runner = open_onnx(model, packed=not reference)
    found: list[list[Array]] = []
    started, kept = time.monotonic(), 0
    for feed in feeds:
        found.append([unpadded(each, feed) for each in runner.values(feed)])
        kept += sum(each.nbytes for each in found[-1])
        if reference and (time.monotonic() - started > MOST_SECONDS or kept > MOST_BYTES):
            break
    return list(runner.outputs), found


def give_large_blocks_back() -> None:
    """Have the C library give freed blocks of 128 KiB and more back to the system, at once.

    glibc raises that threshold when the first of them is freed; then what one session leaves behind
    is still there beside the next, and the peak is that of both. Source: mallopt(3).
    """
    try:
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)
    except (OSError, AttributeError, TypeError):
        return  # another C library


def unpadded(values: Any, feed: Feed) -> Array:
    """Give an output without the values at padded positions."""
    array = np.asarray(values)
    return without_padding(array, feed) if array.ndim else array


def compare_outputs(
    names: Sequence[str],
    expected: Sequence[Sequence[Array]],
    found: Sequence[Sequence[Array]],
    *,
    strict: float = 1.0,
) -> tuple[OutputError, ...]:
    """Compare the outputs of two models on the same samples.

    Parameters
    ----------
    names : sequence of str
    expected, found : sequence of sequence of ndarray
        For each sample its outputs; those of the fp32 model come first.
    strict : float
        The error is multiplied by it; of constant channels its square fewer are allowed.
    """
    return tuple(
        _compare(name, [one[place] for one in expected], [one[place] for one in found], strict)
        for place, name in enumerate(names)
    )


def _compare(
    name: str, expected: Sequence[Array], found: Sequence[Array], strict: float
) -> OutputError:
    if any(x.dtype.kind not in "fiub" for x in expected):
        return OutputError(name, None, None)
    if any(x.shape != y.shape for x, y in zip(expected, found, strict=True)):
        return OutputError(name, None, None)  # as many as there are detections
    x = np.concatenate([each.ravel() for each in expected]).astype(np.float64)
    y = np.concatenate([each.ravel() for each in found]).astype(np.float64)
    finite = np.isfinite(x)
    lost = int(np.count_nonzero(~np.isfinite(y[finite])))
    if lost:
        told = f"{lost:,} of {x.size:,} values of {name} are not finite"
        return OutputError(name, None, None, told)
    x, y = x[finite], y[finite]
    if not x.size:
        return OutputError(name, None, None)
    largest = float(np.abs(x - y).max())
    if expected[0].dtype.kind != "f":
        fault = f"{name} is always {y[0]:g}" if _constant(x, y) and np.unique(x).size > 2 else ""
        return OutputError(name, float(np.mean(x != y)), largest, fault)
    scale = max(float(x.std()), LEAST_DEVIATION * _size(x))
    if scale == 0:
        return OutputError(name, None, largest)
    error = _size(x - y) / scale
    fault = _fault(name, error * strict, x, y) or _lost_channels(name, expected, found, strict)
    return OutputError(name, error, largest, fault)


def _fault(name: str, error: float, x: Array, y: Array) -> str:
    if _constant(x, y):
        return f"{name} is always {y[0]:g}, and varies in fp32"
    if error > LARGEST_ERROR:
        return (
            f"{name} differs from fp32's by {error:.2f} of its deviation (most allowed: "
            f"{LARGEST_ERROR:g})"
        )
    return ""


def _lost_channels(
    name: str, expected: Sequence[Array], found: Sequence[Array], strict: float
) -> str:
    """Say where too many indices along an axis have one value throughout, and not in fp32."""
    if any(one.ndim == 0 for one in expected):  # a number, at least where the batch is 1
        return ""
    if len({one.ndim for one in expected}) > 1:  # of padded batches the rows that are used are left
        expected, found = (
            [one.reshape(-1, one.shape[-1]) for one in each] for each in (expected, found)
        )
    for axis in range(1, expected[0].ndim):
        sizes = {each.shape[axis] for each in expected if each.ndim > axis}
        if len(sizes) != 1 or min(sizes) < 2:
            continue
        rows = (
            np.concatenate([_by_index(one, axis) for one in each], axis=1)
            for each in (expected, found)
        )
        lost, varying = _constant_rows(*rows)
        if varying and lost / varying >= MOST_CONSTANT / strict**2:
            return (
                f"{lost:,} of {varying:,} channels of {name} (its axis {axis}) are constant, and "
                "vary in fp32"
            )
    return ""


def _by_index(array: Array, axis: int) -> Array:
    """Lay out an array as (size of the axis, all others)."""
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1).astype(np.float64)


def _constant_rows(x: Array, y: Array) -> tuple[int, int]:
    """Count the rows that are constant in `y`, among those that vary in `x`."""
    if x.shape[1] < LEAST_VALUES:
        return 0, 0
    with np.errstate(invalid="ignore"):
        deviation = x.std(axis=1)
        size = np.sqrt(np.square(x).mean(axis=1))
        varying = (deviation > VARIES * size) & (deviation > LEAST_SIZE)
        flat = y.min(axis=1) == y.max(axis=1)
    return int(np.count_nonzero(varying & flat)), int(np.count_nonzero(varying))


def _constant(x: Array, y: Array) -> bool:
    """Whether `y` is one number throughout and `x` is not."""
    many = x.size >= LEAST_VALUES and float(x.std()) > VARIES * _size(x)
    return many and float(x.std()) > LEAST_SIZE and float(y.min()) == float(y.max())


def _size(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def first_fault(errors: Sequence[OutputError]) -> str:
    """Give the first reason why these are no answers; empty where they all are."""
    return next((one.fault for one in errors if one.fault), "")
