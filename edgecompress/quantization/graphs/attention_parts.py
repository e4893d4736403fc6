"""What stands around an attention's Softmax: linear layers, rotations, and sums on the way.

What lies between a linear layer and a product is tried on random numbers (`trials`), so that it
does not matter which operators an exporter makes heads and rotations of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto

from edgecompress.quantization.graphs.attention_patterns import LOWEST, MASKED, scaled
from edgecompress.quantization.graphs.trials import LAYERS, SIZES, Trials
from edgecompress.quantization.graphs.wiring import Wiring

Array = np.ndarray[Any, Any]
CLOSE = 1e-4
"""Largest difference of two results in a trial, over the largest of their numbers."""


@dataclass(frozen=True, slots=True)
class Heads:
    """Queries, keys or values: columns of a linear layer's result, (batch, length, width).

    Attributes
    ----------
    source : str
    width, start : int
        Of all columns and the first of these.
    heads, size : int
    scale : float
        They are multiplied by it.
    waves : tuple of str, optional
        Cosines and sines of (…, length, size) that they are rotated by.
    """

    source: str
    width: int
    start: int
    heads: int
    size: int
    scale: float
    waves: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Bias:
    """What is added to scores: a tensor, or a number where a condition holds (or does not)."""

    name: str
    masked: float | None = None
    where: bool = True


def read_scores(
    name: str, wiring: Wiring, trials: Trials
) -> tuple[NodeProto, float, list[Bias]] | None:
    """Follow what a Softmax reads back to the product of queries and keys."""
    scale, biases = 1.0, list[Bias]()
    while each := wiring.made_by(name, "Add", "Where", "Mul", "Div", "MatMul"):
        if each.op_type == "MatMul":
            return each, scale, biases
        before, factor = scaled(name, wiring, steps=1)
        if before == name:
            step = _added(each, wiring, trials)
            if step is None or scale != 1:  # else the bias is scaled, too
                return None
            before, bias = step
            biases.append(bias)
        name, scale = before, scale * factor
    return None


def _added(each: NodeProto, wiring: Wiring, trials: Trials) -> tuple[str, Bias] | None:
    if each.op_type == "Add":
        for bias, scores in (tuple(each.input), tuple(each.input)[::-1]):
            if trials.results(bias):
                return scores, Bias(bias)
    if each.op_type == "Where" and trials.results(each.input[0]):
        for scores, other, holds in ((1, 2, False), (2, 1, True)):
            masked = wiring.scalar(each.input[other])
            if masked is not None and masked <= MASKED:
                return each.input[scores], Bias(each.input[0], max(masked, LOWEST), holds)
    return None


def fits(biases: Sequence[Bias], heads: int, trials: Trials) -> bool:
    """Whether the kernel takes the sum: a number for each query and key, and no more."""
    found = [trials.results(bias.name) or () for bias in biases]
    for (batch, length), *arrays in zip(SIZES, *found, strict=True):
        try:
            shape = np.broadcast_shapes(*(array.shape for _, array in arrays))
        except ValueError:
            return False
        if len(shape) != 4 or shape[2:] != (length, length):
            return False
        if shape[0] not in {1, batch} or shape[1] not in {1, heads}:
            return False
    return True


def read_heads(name: str, wiring: Wiring, trials: Trials, *, turned: bool = False) -> Heads | None:
    """Find out which columns of a linear layer a tensor of heads holds, and how rotated."""
    found = _source(name, wiring)
    if found is None:
        return None
    source, waves = found
    width = wiring.columns(source) or 0
    results = trials.results(name, {source: width}) or ()
    arrays = [array.swapaxes(-1, -2) if turned else array for _, array in results]
    if not arrays or any(array.ndim != 4 for array in arrays):
        return None
    heads, size = arrays[0].shape[1], arrays[0].shape[3]
    if width % (heads * size):
        return None
    rotations = _rotations(waves, size, trials) if waves else None
    if waves and rotations is None:
        return None
    for start in range(0, width, heads * size):
        expected = []
        for number, (feed, _) in enumerate(results):
            columns = feed[source][:, :, start : start + heads * size]
            split = columns.reshape(*columns.shape[:2], heads, size).transpose(0, 2, 1, 3)
            expected.append(_rotated(split, *rotations[number]) if rotations else split)
        scale = _factor(expected, arrays)
        if scale is not None:
            return Heads(source, width, start, heads, size, scale, waves)
    return None


def _source(name: str, wiring: Wiring) -> tuple[str, tuple[str, str] | None] | None:
    """Give the linear layer's result that a tensor is made of, and the waves on the way."""
    sources, waves = set[str](), dict[str, str]()
    pending, seen = [name], {name}
    while pending:
        each = pending.pop()
        made = wiring.makers.get(each)
        if made is None:
            continue
        if wiring.columns(each):
            sources.add(each)
            continue
        if made.op_type in LAYERS - {"MatMul"}:
            return None
        if made.op_type in {"Cos", "Sin"}:
            waves[made.op_type] = each
        if made.op_type == "Shape":
            continue
        pending += {*made.input} - seen
        seen |= {*made.input}
    if len(sources) != 1 or len(waves) == 1:
        return None
    return sources.pop(), (waves["Cos"], waves["Sin"]) if waves else None


def _rotations(
    waves: tuple[str, str], size: int, trials: Trials
) -> list[tuple[Array, Array]] | None:
    """Give cosines and sines of each trial, (length, size); None where rows have their own."""
    found = [trials.results(name) or () for name in waves]
    if any(len(each) != len(SIZES) for each in found):
        return None
    made = []
    for (_, length), (_, cosines), (_, sines) in zip(SIZES, *found, strict=True):
        if cosines.size != length * size or sines.size != length * size:
            return None
        made.append((cosines.reshape(length, size), sines.reshape(length, size)))
    return made


def _rotated(states: Array, cosines: Array, sines: Array) -> Array:
    """Rotate pairs of (…, length, size): the first half of a size with the second."""
    first, second = np.split(states, 2, axis=-1)
    return states * cosines + np.concatenate([-second, first], axis=-1) * sines


def _factor(expected: Sequence[Array], found: Sequence[Array]) -> float | None:
    """Give the factor between two series of arrays; None where they differ otherwise."""
    if any(one.shape != other.shape for one, other in zip(expected, found, strict=True)):
        return None
    first, second = (np.concatenate([each.ravel() for each in part]) for part in (expected, found))
    factor = float(first @ second / (first @ first))
    gap = np.abs(first * factor - second).max()
    if gap > CLOSE * np.abs(second).max():
        return None
    return 1.0 if abs(factor - 1) < CLOSE else factor
