"""SmoothQuant on an fp32 ONNX graph: move outliers from activations into weights.

Source: Xiao et al., 2023, "SmoothQuant: Accurate and efficient post-training quantization for large
language models". Channel j of a linear layer's input is divided by s_j = max|X_j|^alpha /
max|W_j|^(1-alpha) and row j of its weight multiplied by it. Factors are rounded to powers of two,
so that nothing is rounded by them: the fp32 model gives the same answers, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from edgecompress.errors import StageError
from edgecompress.models.storage import StoredModel
from edgecompress.quantization.arithmetic.blocks import (
    dequantize_blocks,
    fitting_block,
    quantize_blocks,
)
from edgecompress.quantization.arithmetic.weights import asymmetric, quantize_linear
from edgecompress.quantization.graphs.folding import Group, find_groups, scale_slot
from edgecompress.quantization.graphs.layers import name_nodes, names_read
from edgecompress.quantization.observe.channels import Channels

Array = np.ndarray[Any, Any]

ALPHAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""What the search tries, beside leaving a layer as it is."""
LEAST_GAIN = 0.98
"""A layer is left as it is unless smoothing takes its error below this share of what it was."""
MOST_EXPONENT = 20
"""Factors lie within 2^±20, so that no weight overflows or vanishes in fp32."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is done to the layers of one input.

    Attributes
    ----------
    alpha : float or None
        None: nothing.
    error, plain_error : float
        `layer_error` with and without the factors.
    """

    alpha: float | None
    error: float
    plain_error: float


def smoothable(
    model: StoredModel, exclude: frozenset[str], *, multiply: bool, tables: bool = False
) -> list[Group]:
    """List the groups whose inputs can be divided: by folding or, with `multiply`, by a node.

    The nodes of `model` are given names. `tables` is that of `find_groups`.
    """
    name_nodes(model)
    return [
        group
        for group in find_groups(model, tables=tables)
        if group.weights
        and (group.folds or multiply)
        and not any(exclude & {layer.node, *layer.weights} for layer in group.layers)
    ]


def refused_groups(model: StoredModel, groups: Sequence[Group]) -> dict[str, str]:
    """Say of each linear layer's input that is not among `groups` why, where the graph is why."""
    taken = {group.data for group in groups}
    return {
        group.data: group.refused or "excluded by the recipe"
        for group in find_groups(model)
        if group.data not in taken
    }


def group_weight(model: StoredModel, group: Group) -> Array:
    """Weights of a group side by side: float32, shape (channels, outputs of all its layers)."""
    tensors = {tensor.name: tensor for tensor in model.proto.graph.initializer}
    parts = []
    for layer in group.layers:
        array = model.array(tensors[layer.weights[0]])
        parts.append(array.T if layer.transposed else array)
    return np.concatenate(parts, axis=1)


def smoothing_factors(most: Array, weight: Array, alpha: float) -> Array:
    """Give s_j of each channel as powers of two: float32, shape (channels,).

    Parameters
    ----------
    most : ndarray, float32, shape (channels,)
        Largest absolute activation of each channel.
    weight : ndarray, float32, shape (channels, outputs)
    alpha : float
        0 leaves all unevenness in the activations, 1 moves it into the weights.
    """
    largest = np.abs(weight).max(axis=1).astype(np.float64)
    usable = (most > 0) & (largest > 0)
    exponents = np.zeros(len(most))
    x, w = np.log2(most[usable].astype(np.float64)), np.log2(largest[usable])
    exponents[usable] = alpha * x - (1 - alpha) * w
    # A factor common to all channels changes no quantized value: the middle one is 1.
    exponents[usable] -= np.median(exponents[usable]) if usable.any() else 0.0
    exponents = np.clip(np.round(exponents), -MOST_EXPONENT, MOST_EXPONENT)
    factors: Array = np.exp2(exponents).astype(np.float32)
    return factors


def layer_error(
    seen: Channels, weight: Array, factors: Array | None, block: int | None = None
) -> float:
    """Squared error of a linear layer in int8 over the squares of its output, on the kept rows.

    It is the mean over the channels of the output, as a normalization that follows evens them out:
    in their sum one loud channel would hide what the others lose. With a `block` it is that sum.

    Activations are uint8 over all that was seen, weights int8 per output channel: what
    `quantize.static` does by default. With a `block`, both have a scale for each block of so many
    channels of a row, or of an output: what `quantize.weights` does with `linear_bits: 8`.

    Parameters
    ----------
    seen : Channels
    weight : ndarray, float32, shape (channels, outputs)
    factors : ndarray, float32, shape (channels,), optional
    block : int, optional
        Divides the number of channels.
    """
    divisor = np.ones_like(seen.low) if factors is None else factors
    rows, moved = seen.rows / divisor, weight * divisor[:, None]
    if block is not None:
        found = _rounded(rows, block) @ _rounded(np.ascontiguousarray(moved.T), block).T
        expected = seen.rows @ weight
        return float(_relative(found.ravel(), expected.ravel()))
    scale, zero = asymmetric((seen.low / divisor).min(), (seen.high / divisor).max())
    codes = np.clip(np.round(rows / scale) + zero, 0, 255) - zero
    made = quantize_linear(moved, per_channel=True, reduce_range=False)
    found = (codes.astype(np.float32) * scale) @ (made.values.astype(np.float32) * made.scale)
    return float(_relative(found, seen.rows @ weight).mean())


def _rounded(rows: Array, block: int) -> Array:
    return dequantize_blocks(quantize_blocks(rows, 8, block))


def _relative(found: Array, expected: Array) -> Array:
    """Squared error over squares, of each column; 0 where nothing is expected."""
    power = np.square(expected).sum(axis=0, dtype=np.float64)
    lost = np.square(found - expected).sum(axis=0, dtype=np.float64)
    return np.divide(lost, power, out=np.zeros_like(power), where=power > 0)


def choose_alpha(
    seen: Channels, weight: Array, alphas: Sequence[float] = ALPHAS, block: int | None = None
) -> Choice:
    """Find the alpha whose layer loses least in int8; None where smoothing hardly helps.

    Parameters
    ----------
    seen : Channels
    weight : ndarray, float32, shape (channels, outputs)
    alphas : sequence of float
        What is tried.
    block : int, optional
        As in `layer_error`; a layer whose channels no block divides is left alone.
    """
    if block is not None and (block := fitting_block(len(weight), block)) is None:
        return Choice(None, 0.0, 0.0)
    plain = layer_error(seen, weight, None, block)
    tried = [
        (layer_error(seen, weight, smoothing_factors(seen.most, weight, alpha), block), alpha)
        for alpha in alphas
    ]
    error, alpha = min(tried)
    if error < plain * LEAST_GAIN:
        return Choice(alpha, error, plain)
    return Choice(None, plain, plain)


def smooth(
    model: StoredModel, groups: Sequence[Group], factors: Mapping[str, Array]
) -> StoredModel:
    """Divide the inputs of `groups` by their factors and multiply the weights.

    The graph of `model` is changed in place; only changed weights are held in memory.

    Parameters
    ----------
    model : StoredModel
    groups : sequence of Group
    factors : mapping of str to ndarray, float32, shape (channels,)
        By the name of a group's input; a group that has none stays as it is.

    Raises
    ------
    StageError
        When a factor is not finite and positive.
    """
    graph = model.proto.graph
    taken = {t.name for t in graph.initializer} | {n for node in graph.node for n in node.output}
    for group in groups:
        scale = factors.get(group.data)
        if scale is None or (scale == 1).all():
            continue
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise StageError(f"the factors of {group.data} are not finite and positive")
        for slot in group.weights:
            scale_slot(model, slot, scale, taken)
        for slot in group.folds:
            scale_slot(model, slot, 1 / scale, taken)
        if not group.folds:
            _multiply(model, group, 1 / scale)
        for number, name in enumerate(group.looked_up):
            _divide_rows(model, group, name, 1 / scale, f"{group.data}_rows{number}")
    return _without_unused(model)


def _multiply(model: StoredModel, group: Group, factors: Array) -> None:
    """Put a Mul between the group's input and its layers, before the first of them."""
    graph = model.proto.graph
    readers = {layer.node for layer in group.layers}
    name, constant = f"{group.data}_smooth", f"{group.data}_smooth_factors"
    graph.initializer.append(numpy_helper.from_array(factors, constant))
    first = next(index for index, node in enumerate(graph.node) if node.name in readers)
    for node in graph.node:
        if node.name in readers:
            node.input[0] = name
    node = helper.make_node("Mul", [group.data, constant], [name], f"{group.data}_Smooth")
    graph.node.insert(first, node)


def _divide_rows(model: StoredModel, group: Group, name: str, factors: Array, stem: str) -> None:
    """Have a Gather read the table that was multiplied, and put a Mul behind it."""
    graph = model.proto.graph
    nodes = {node.name: node for node in graph.node}
    (slot,), gather = group.weights, nodes[name]
    table, rows = nodes[slot.node].input[slot.position], gather.output[0]
    graph.initializer.append(numpy_helper.from_array(factors, f"{stem}_factors"))
    gather.input[0], gather.output[0] = table, f"{stem}_multiplied"
    inputs = [f"{stem}_multiplied", f"{stem}_factors"]
    made = helper.make_node("Mul", inputs, [rows], f"{stem}_Smooth")
    graph.node.insert(list(graph.node).index(gather) + 1, made)


def _without_unused(model: StoredModel) -> StoredModel:
    graph = model.proto.graph
    used = names_read(graph.node) | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    names = {tensor.name for tensor in kept}
    graph.ClearField("initializer")
    graph.initializer.extend(kept)
    return StoredModel(model.proto, {n: p for n, p in model.places.items() if n in names})
