"""Cross-layer equalization: even out the channels between two layers, so that 8 bits hold both.

Source: Nagel et al., 2019, "Data-free quantization through weight equalization and bias
correction", section 4.1: channel i of the first layer is divided by s_i = sqrt(r1_i / r2_i), where
r1_i and r2_i are the largest weights that make it and that read it, and the second layer's weights
are multiplied by it. Factors are powers of two here, so that nothing is rounded by them.

The paper takes a ReLU6 for a ReLU. Here it stays: behind a Clip from 0 to u a channel is only made
smaller, and only where the samples kept it below u / 2, so that nothing is cut off that was not.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgecompress.errors import StageError
from edgecompress.models.storage import StoredModel
from edgecompress.quantization.arithmetic.weights import array_tensor
from edgecompress.quantization.graphs.channel_pairs import Pair, by_input, by_output, groups_of

Array = np.ndarray[Any, Any]
Exponents = Mapping[str, Array]

ROUNDS = 8
"""A layer in the middle of three is changed twice; so often all are gone through, as in the
paper's own code until nothing changes, which rounded factors reach sooner."""
MOST_EXPONENT = 20
"""Factors lie within 2^±20, so that no weight overflows or vanishes in fp32."""
FREE = 0.5
"""Of where a Clip ends: a channel that came above this stays as it is."""


def equalizing_exponents(
    model: StoredModel, pairs: Sequence[Pair], most: Mapping[str, Array]
) -> dict[str, Array]:
    """Find the factors, 2 to the power of what is given, int8 (channels,), by a pair's tensor.

    Parameters
    ----------
    model : StoredModel
        `ready` for a plan.
    pairs : sequence of Pair
    most : mapping of str to ndarray, shape (channels,)
        By the tensor between a pair, the largest absolute value of each channel.
    """
    weights = _Weights(model, pairs)
    total = {pair.between: np.zeros(pair.channels) for pair in pairs}
    for _ in range(ROUNDS):
        changed = False
        for pair in pairs:
            step = _step(*weights.ranges(pair))
            before, after = total[pair.between], total[pair.between] + step
            if math.isfinite(pair.bound):
                after = np.where(most[pair.between] > FREE * pair.bound, 0, np.maximum(after, 0))
            after = np.clip(after, -MOST_EXPONENT, MOST_EXPONENT)
            weights.scale(pair, np.exp2(after - before))
            total[pair.between] = after
            changed |= bool((after != before).any())
        if not changed:
            break
    return {name: found.astype(np.int8) for name, found in total.items() if found.any()}


def _step(first: Array, second: Array) -> Array:
    """Give the exponents that even out two layers' ranges; the middle one is 0."""
    usable = (first > 0) & (second > 0)
    found = np.zeros(len(first))
    if usable.any():
        wanted = np.log2(first[usable] / second[usable]) / 2
        found[usable] = np.round(wanted - np.median(wanted))
    return found


def equalize(model: StoredModel, pairs: Sequence[Pair], exponents: Exponents) -> None:
    """Scale the layers of `pairs`; the graph is changed in place, its files are not.

    Raises
    ------
    StageError
        When the exponents, which may come from a record, are of another graph.
    """
    known = {pair.between: pair.channels for pair in pairs}
    for name, found in exponents.items():
        if known.get(name) != len(found):
            raise StageError(f"the record evens out {name}, which this model or recipe rules out")
    weights = _Weights(model, [pair for pair in pairs if pair.between in exponents])
    for pair in weights.pairs:
        weights.scale(pair, np.exp2(exponents[pair.between].astype(np.float64)))
    weights.put()


def exponents_json(exponents: Exponents) -> dict[str, str]:
    """Give exponents as a stage records them: a byte each, in base64."""
    return {name: base64.b64encode(one.tobytes()).decode() for name, one in exponents.items()}


def exponents_from(document: Any) -> dict[str, Array]:
    """Read what `exponents_json` gave.

    Raises
    ------
    StageError
        When it is none.
    """
    try:
        return {
            str(name): np.frombuffer(base64.b64decode(text, validate=True), np.int8)
            for name, text in document.items()
        }
    except (AttributeError, TypeError, ValueError):
        raise StageError("this is no record of how channels were evened out") from None


class _Weights:
    """The weights and biases of pairs, changed in memory."""

    def __init__(self, model: StoredModel, pairs: Sequence[Pair]) -> None:
        graph = model.proto.graph
        self.model, self.pairs = model, pairs
        self.nodes = {node.name: node for node in graph.node}
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.arrays: dict[str, Array] = {}
        for pair in pairs:
            for name in (*self.nodes[pair.first.node].input[1:3], pair.second.weights[0]):
                if name and name not in self.arrays:
                    self.arrays[name] = model.array(self.tensors[name]).astype(np.float32)

    def ranges(self, pair: Pair) -> tuple[Array, Array]:
        """Give the largest absolute weight that makes each channel, and that reads it."""
        made, read = self._parts(pair)
        shape = (pair.channels, -1)
        return tuple(np.abs(one).reshape(shape).max(axis=1) for one in (made, read))

    def scale(self, pair: Pair, factors: Array) -> None:
        """Divide what makes each channel by its factor, and multiply what reads it."""
        made, read = self._parts(pair)
        exact = factors.astype(np.float32)
        made /= exact.reshape(-1, *[1] * (made.ndim - 1))
        read *= exact.reshape(*read.shape[:2], *[1] * (read.ndim - 2))
        for name in self.nodes[pair.first.node].input[2:3]:
            if name:
                self.arrays[name] /= exact

    def put(self) -> None:
        """Put what was changed into the graph."""
        for name, array in self.arrays.items():
            self.tensors[name].CopyFrom(array_tensor(np.ascontiguousarray(array), name))
            self.model.places.pop(name, None)

    def _parts(self, pair: Pair) -> tuple[Array, Array]:
        first, second = (self.arrays[one.weights[0]] for one in (pair.first, pair.second))
        groups = groups_of(self.nodes[pair.second.node]) if pair.second.kind == "conv" else 1
        return by_output(first, pair.first), by_input(second, pair.second, groups)
