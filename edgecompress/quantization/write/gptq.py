"""GPTQ: weights in blocks of 4 or 8 bits, each rounding made up for by the weights not yet rounded.

Source: Frantar et al., 2023, "GPTQ: Accurate post-training quantization for generative pre-trained
transformers", with the order of its ``act_order`` (columns of the largest inputs first) on scales
that are fixed before (its ``static_groups``), since the kernels want blocks of neighbours. What a
layer is given is described by H = 2 Σ x xᵀ of its inputs x: one matrix for each distinct input.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgecompress.errors import StageError
from edgecompress.models.storage import StoredModel
from edgecompress.quantization.arithmetic.blocks import (
    Bits,
    Blocks,
    block_scales,
    fitting_block,
    pack,
)
from edgecompress.quantization.arithmetic.lines import block_lines
from edgecompress.quantization.graphs.layers import find_layers

Array = np.ndarray[Any, Any]

MOST_HESSIAN_BYTES = 1 << 28
"""Hessians that are accumulated in one pass; a larger model takes several passes."""
DAMPING = 0.01
"""Share of the mean of H's diagonal that is added to it (the paper's `percdamp`)."""
LAZY = 128
"""Columns between two updates of all that follow (the paper's `blocksize`)."""
CHUNK_VALUES = 1 << 22
"""Weights that are rounded at a time: outputs do not depend on each other."""


@dataclass(frozen=True, slots=True)
class LinearWeight:
    """A weight of linear layers.

    Attributes
    ----------
    name : str
    width : int
        Its inputs.
    transposed : bool
        It is stored with shape (outputs, inputs).
    inputs : tuple of str
        What its layers multiply: one tensor, or several where layers share the weight.
    """

    name: str
    width: int
    transposed: bool
    inputs: tuple[str, ...]


def gptq_weights(model: StoredModel, exclude: frozenset[str], block: int) -> list[LinearWeight]:
    """List the weights of `model` that become blocks; all its nodes must have names.

    A weight that layers use both ways round is left out.
    """
    sizes = {tensor.name: tensor.dims for tensor in model.proto.graph.initializer}
    found: dict[str, LinearWeight | None] = {}
    for layer in find_layers(model):
        name = layer.weights[0]
        if layer.kind not in {"matmul", "gemm"} or layer.refused or exclude & {layer.node, name}:
            continue
        width = sizes[name][1 if layer.transposed else 0]
        made = LinearWeight(name, width, layer.transposed, (layer.data,))
        if name in found:
            before = found[name]
            same = before is not None and before.transposed == layer.transposed
            inputs = (*(before.inputs if before else ()), layer.data)
            found[name] = replace(made, inputs=tuple(dict.fromkeys(inputs))) if same else None
        elif fitting_block(width, block) is not None:
            found[name] = made
    return [weight for weight in found.values() if weight is not None]


def passes(weights: Sequence[LinearWeight]) -> list[list[LinearWeight]]:
    """Share weights out among passes over the samples, so that their Hessians fit in memory."""
    found: list[list[LinearWeight]] = []
    taken: set[str] = set()
    left = 0
    for weight in weights:
        size = 4 * weight.width**2 * len({*weight.inputs} - taken)
        if not found or size > left:
            found.append([])
            taken = set()
            left = MOST_HESSIAN_BYTES
            size = 4 * weight.width**2 * len(weight.inputs)
        found[-1].append(weight)
        taken |= {*weight.inputs}
        left -= size
    return found


def hessians(samples: Iterable[Mapping[str, Array]]) -> dict[str, Array]:
    """Sum 2 x xᵀ over the rows x of each tensor: float32, shape (channels, channels).

    Parameters
    ----------
    samples : iterable of dict
        What `channels.stream` yields: rows of each tensor, float32 (rows, channels).
    """
    found: dict[str, Array] = {}
    for sample in samples:
        for name, rows in sample.items():
            width = rows.shape[1]
            total = found.setdefault(name, np.zeros((width, width), np.float32))
            total += 2 * (rows.T @ rows)
    return found


def quantize_weight(
    model: StoredModel,
    weight: LinearWeight,
    found: Mapping[str, Array],
    bits: Bits,
    block: int,
    *,
    offsets: bool = False,
) -> Blocks:
    """Quantize one weight of `model` with the Hessians of its inputs.

    Raises
    ------
    StageError
        When a Hessian is not finite.
    """
    tensor = next(t for t in model.proto.graph.initializer if t.name == weight.name)
    array = model.array(tensor)
    rows = array if weight.transposed else np.ascontiguousarray(array.T)
    hessian = sum((found[name] for name in weight.inputs[1:]), start=found[weight.inputs[0]])
    fitting = fitting_block(weight.width, block) or block
    return quantize_gptq(rows, hessian, bits, fitting, offsets=offsets)


def quantize_gptq(
    weight: Array, hessian: Array, bits: Bits, block: int, *, offsets: bool = False
) -> Blocks:
    """Quantize the rows of a weight so that its products with the inputs change little.

    Parameters
    ----------
    weight : ndarray, float32, shape (outputs, inputs)
        `block` divides its inputs.
    hessian : ndarray, float32, shape (inputs, inputs)
    bits : int
    block : int
        Inputs that share a scale.
    offsets : bool
        Blocks have offsets beside their scales (`arithmetic.lines`).

    Raises
    ------
    StageError
        When the Hessian is not finite.
    """
    if not np.isfinite(hessian).all():
        raise StageError("the statistics of a layer's input are NaN or infinite")
    diagonal = np.diag(hessian).astype(np.float64)
    lines = block_lines(weight, bits, block, diagonal) if offsets else None
    scale = lines.scale if lines else block_scales(weight, bits, block, importance=diagonal)
    order = np.argsort(-diagonal, kind="stable")
    upper = _inverse_root(hessian[np.ix_(order, order)].astype(np.float64))
    codes = np.empty(weight.shape, np.uint8)
    step = max(1, CHUNK_VALUES // weight.shape[1])
    for start in range(0, len(weight), step):
        part = slice(start, start + step)
        scales = np.repeat(scale[part], block, axis=1)[:, order]
        values = weight[part]
        if lines is not None and lines.offset is not None:
            values = values - np.repeat(lines.offset[part], block, axis=1)
        codes[part, order] = _round_columns(values[:, order], scales, upper, bits)
    return (
        lines.blocks(codes, bits, block) if lines else Blocks(pack(codes, bits), scale, bits, block)
    )


def _round_columns(weight: Array, scales: Array, upper: Array, bits: Bits) -> Array:
    """Round column after column and spread each one's error over those that follow.

    Parameters
    ----------
    weight, scales : ndarray, float32, shape (rows, columns)
    upper : ndarray, float32, shape (columns, columns)
        What `_inverse_root` gives.
    bits : int

    Returns
    -------
    ndarray, uint8, shape (rows, columns)
    """
    middle = 1 << (bits - 1)
    values = weight.astype(np.float32)
    codes = np.empty(values.shape, np.uint8)
    width = values.shape[1]
    for start in range(0, width, LAZY):
        stop = min(start + LAZY, width)
        errors = np.empty((len(values), stop - start), np.float32)
        for column in range(start, stop):
            current = values[:, column]
            code = np.clip(np.round(current / scales[:, column]), -middle, middle - 1)
            codes[:, column] = code + middle
            error = (current - code * scales[:, column]) / upper[column, column]
            values[:, column + 1 : stop] -= error[:, None] * upper[column, column + 1 : stop]
            errors[:, column - start] = error
        values[:, stop:] -= errors @ upper[start:stop, stop:]
    return codes


def _inverse_root(hessian: Array) -> Array:
    """Give the upper Cholesky factor of the damped Hessian's inverse, float32.

    More is added to the diagonal until it can be factored: inputs that depend on each other leave
    a Hessian without full rank.
    """
    diagonal = np.diag(hessian)
    mean = float(diagonal.mean())
    if mean <= 0:  # no input was ever other than 0: any rounding is as good
        return np.eye(len(hessian), dtype=np.float32)
    damping = DAMPING
    while True:
        damped = hessian + np.diag(np.full(len(hessian), damping * mean))
        try:
            inverse = np.linalg.inv(damped)
            # chol(A) upper with A = UᵀU, as the paper's torch.linalg.cholesky(…, upper=True)
            root = np.linalg.cholesky((inverse + inverse.T) / 2).T
        except np.linalg.LinAlgError:
            damping *= 10
            continue
        return np.ascontiguousarray(root, dtype=np.float32)
