"""Which tensors around convolutions are kept in 8 bits, so that chains of them stay integers.

ONNX Runtime runs a convolution as ``QLinearConv`` where its input, weight, bias and output stand
between QuantizeLinear and DequantizeLinear, and likewise pooling, sums and concatenations between
convolutions. A Relu or Clip behind a convolution is folded into the quantization of its result,
whose range begins at 0. What becomes an output of the graph is rounded only where a convolution
makes it, since no integer reads it any more; and tensors of unlike ranges that a Concat joins share
no scale. Source: ONNX Runtime, "Quantize ONNX models", and its QDQ selectors
(onnxruntime/core/optimizer/qdq_transformer).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgecompress.errors import StageError
from edgecompress.quantization.arithmetic.weights import Quantized, quantize_linear
from edgecompress.quantization.graphs.layers import readers_of

Array = np.ndarray[Any, Any]

# Give back the values they are given: their result has the range of their input.
PASSING = frozenset({"MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"})
# Have an integer kernel of their own (QLinearAdd, QLinearGlobalAveragePool, …).
COMPUTING = frozenset(
    {"Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool", "LeakyRelu", "Sigmoid", "Relu"}
)
FOLDED = frozenset({"Relu", "Clip"})
BIAS_LIMIT = 2**30
"""Half of what 32 bits hold; the other half is left for the sum of products (`fitness.MOST_SUM`).
"""
LEAST_LEVELS = 8
"""Of the 256 levels of a join, so many must be left for each tensor in it: with 8 the rounding of
normal values is a quarter of their standard deviation, with 4 a half."""
UNLIKE = "its input joins tensors of unlike ranges"


@dataclass(frozen=True, slots=True)
class Regions:
    """Tensors that are kept in 8 bits.

    Attributes
    ----------
    sources : dict of str to str
        By tensor the one whose range it has: itself, or what a pooling or reshaping was given.
    left : dict of str to str
        Convolutions that stay in fp32 because of what they read or make, and why.
    """

    sources: Mapping[str, str]
    left: Mapping[str, str] = field(default_factory=dict)

    @property
    def ranges_of(self) -> list[str]:
        """Tensors whose ranges must be measured, in the graph's order."""
        return list(dict.fromkeys(self.sources.values()))


def find_regions(
    nodes: Sequence[Any],
    outputs: Iterable[str],
    convolutions: set[str],
    apart: Mapping[str, str] | None = None,
) -> Regions:
    """Follow the tensors from the convolutions with these node names as far as they can be int8.

    Parameters
    ----------
    nodes : sequence of NodeProto
        In an order in which each node's inputs come before it; all with names.
    outputs : iterable of str
        The graph's outputs, behind which nothing is folded.
    convolutions : set of str
    apart : mapping of str to str, optional
        Tensors that 8 bits cannot hold, and why.
    """
    consumers = readers_of(nodes)
    ends = set(outputs)
    last = _only_passed_on(nodes, ends, consumers)
    kept = dict(apart or {})
    sources: dict[str, str] = {}
    left: dict[str, str] = {}
    folded: set[str] = set()

    def result(name: str) -> str:
        after = consumers.get(name, [])
        alone = name not in ends and len(after) == 1
        return str(after[0].output[0]) if alone and after[0].op_type in FOLDED else name

    def mark(name: str) -> None:
        found = result(name)
        if found != name:
            folded.add(consumers[name][0].name)
        sources.setdefault(found, found)

    for node in nodes:
        if node.name in folded:
            continue
        data = [name for name in node.input if name]
        if node.name in convolutions:
            reason = kept.get(node.input[0]) or kept.get(result(node.output[0]))
            if reason:
                left[node.name] = reason
                continue
            sources.setdefault(node.input[0], node.input[0])
            mark(node.output[0])
        elif node.op_type in PASSING | FOLDED and data[0] in kept:
            kept[node.output[0]] = kept[data[0]]
        elif node.op_type in PASSING and data[0] in sources and len(node.output) == 1:
            sources[node.output[0]] = sources[data[0]]
        elif node.op_type in COMPUTING and all(name in sources for name in data):
            found = result(node.output[0])
            if not {found, node.output[0]} & {*kept, *last}:
                mark(node.output[0])
    return Regions(sources, left)


def _only_passed_on(
    nodes: Sequence[Any], ends: set[str], consumers: Mapping[str, Sequence[Any]]
) -> set[str]:
    """Give the graph's outputs, and what is reshaped to one of them and read by nothing else."""
    found = set(ends)
    for node in reversed(nodes):
        for name in node.output:
            after = consumers.get(name, [])
            if after and all(n.op_type in PASSING and n.output[0] in found for n in after):
                found.add(name)
    return found


def unlike_joins(
    nodes: Sequence[Any], regions: Regions, ranges: Mapping[str, tuple[float, float]]
) -> dict[str, str]:
    """Find the joins in which one scale would leave a tensor fewer than `LEAST_LEVELS` levels.

    Parameters
    ----------
    nodes : sequence of NodeProto
    regions : Regions
    ranges : mapping of str to (float, float)
        Of the regions' sources.

    Returns
    -------
    dict of str to str
        By what a Concat makes, why it is to be left apart.
    """
    found: dict[str, str] = {}
    for node in nodes:
        if node.op_type != "Concat" or not all(name in regions.sources for name in node.input):
            continue
        sources = {regions.sources[name] for name in node.input}
        spans = [_span(*ranges[name]) for name in sources if name in ranges]
        joined = [span for span in spans if span > 0]  # what is always 0 loses nothing
        if joined and min(joined) * 255 < LEAST_LEVELS * max(joined):
            found[node.output[0]] = UNLIKE
    return found


def _span(low: float, high: float) -> float:
    return max(high, 0.0) - min(low, 0.0)


def quantize_filters(
    weight: Array, *, per_channel: bool, reduce_range: bool, least: Array | None = None
) -> Quantized:
    """Quantize a convolution's weight to symmetric int8, one scale for each output channel.

    Parameters
    ----------
    weight : ndarray, float32, shape (outputs, inputs / groups, …)
    per_channel, reduce_range : bool
    least : ndarray, float32, shape (outputs,), optional
        The smallest scales that the bias fits beside (`least_scales`).
    """
    rows = np.ascontiguousarray(weight.reshape(len(weight), -1).T)
    made = quantize_linear(rows, per_channel=per_channel, reduce_range=reduce_range)
    if least is not None:
        empty = ~rows.any(axis=0) & (least > 0)  # a scale of 1 would round its bias to nothing
        scale = np.where(empty, least, np.maximum(made.scale, least))
        values = np.clip(np.round(rows / scale), -127, 127).astype(np.int8)
        values = np.where(scale == made.scale, made.values, values)
        made = Quantized(values, scale.astype(np.float32), made.zero_point)
    values = np.ascontiguousarray(made.values.T).reshape(weight.shape)
    return Quantized(values, made.scale, made.zero_point)


def least_scales(bias: Array, data_scale: Array) -> Array:
    """Give the smallest weight scale of each channel whose bias still fits into 32 bits.

    Source: onnxruntime's quantizer, which enlarges the weight's scale where the bias would be cut
    off (microsoft/onnxruntime, pull requests 22020 and 25278).

    Returns
    -------
    ndarray, float32, shape of `bias`
    """
    least = np.abs(bias.astype(np.float64)) / (float(data_scale) * BIAS_LIMIT)
    return np.nextafter(least.astype(np.float32), np.float32(np.inf)) * (least > 0)


def quantize_bias(bias: Array, data_scale: Array, weight_scale: Array) -> tuple[Array, Array]:
    """Quantize a convolution's bias to int32, in units of one product of input and weight.

    Returns
    -------
    values : ndarray, int32, shape (outputs,)
    scale : ndarray, float32, shape of `weight_scale`

    Raises
    ------
    StageError
        When a value does not fit: the weight's scale is too small for it (`least_scales`).
    """
    scale = np.asarray(data_scale * weight_scale, np.float32)
    codes = np.round(bias.astype(np.float64) / np.maximum(scale, np.finfo(np.float32).tiny))
    if not (np.abs(codes) <= BIAS_LIMIT * (1 + 1e-6)).all():
        raise StageError("a bias does not fit into 32 bits beside its weight's scale")
    return codes.astype(np.int32), scale
