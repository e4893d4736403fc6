"""Which tensors around convolutions are kept in 8 bits, so that chains of them stay integers.

ONNX Runtime runs a convolution as ``QLinearConv`` where its input, weight, bias and output stand
between QuantizeLinear and DequantizeLinear, and likewise pooling, sums and concatenations between
convolutions. A Relu or Clip behind a convolution is folded into the quantization of its result,
whose range begins at 0. Source: ONNX Runtime, "Quantize ONNX models", and its QDQ selectors
(onnxruntime/core/optimizer/qdq_transformer).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecompress.quantization.weights import Quantized, quantize_linear

Array = np.ndarray[Any, Any]

# Give back the values they are given: their result has the range of their input.
PASSING = frozenset({"MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"})
# Have an integer kernel of their own (QLinearAdd, QLinearGlobalAveragePool, …).
COMPUTING = frozenset(
    {"Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool", "LeakyRelu", "Sigmoid", "Relu"}
)
FOLDED = frozenset({"Relu", "Clip"})
BIAS_LIMIT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Regions:
    """Tensors that are kept in 8 bits.

    Attributes
    ----------
    sources : dict of str to str
        By tensor the one whose range it has: itself, or what a pooling or reshaping was given.
    """

    sources: Mapping[str, str]

    @property
    def ranges_of(self) -> list[str]:
        """Tensors whose ranges must be measured, in the graph's order."""
        return list(dict.fromkeys(self.sources.values()))


def find_regions(nodes: Sequence[Any], outputs: Iterable[str], convolutions: set[str]) -> Regions:
    """Follow the tensors from the convolutions with these node names as far as they can be int8.

    Parameters
    ----------
    nodes : sequence of NodeProto
        In an order in which each node's inputs come before it; all with names.
    outputs : iterable of str
        The graph's outputs, behind which nothing is folded.
    convolutions : set of str
    """
    consumers: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    ends = set(outputs)
    sources: dict[str, str] = {}
    folded: set[str] = set()

    def mark(name: str) -> None:
        after = consumers.get(name, [])
        if name not in ends and len(after) == 1 and after[0].op_type in FOLDED:
            folded.add(after[0].name)
            name = after[0].output[0]
        sources.setdefault(name, name)

    for node in nodes:
        if node.name in folded:
            continue
        data = [name for name in node.input if name]
        if node.name in convolutions:
            sources.setdefault(node.input[0], node.input[0])
            mark(node.output[0])
        elif node.op_type in PASSING and data[0] in sources and len(node.output) == 1:
            sources[node.output[0]] = sources[data[0]]
        elif node.op_type in COMPUTING and all(name in sources for name in data):
            mark(node.output[0])
    return Regions(sources)


def quantize_filters(weight: Array, *, per_channel: bool, reduce_range: bool) -> Quantized:
    """Quantize a convolution's weight to symmetric int8, one scale for each output channel.

    Parameters
    ----------
    weight : ndarray, float32, shape (outputs, inputs / groups, …)
    """
    rows = np.ascontiguousarray(weight.reshape(len(weight), -1).T)
    made = quantize_linear(rows, per_channel=per_channel, reduce_range=reduce_range)
    values = np.ascontiguousarray(made.values.T).reshape(weight.shape)
    return Quantized(values, made.scale, made.zero_point)


def quantize_bias(bias: Array, data_scale: Array, weight_scale: Array) -> tuple[Array, Array]:
    """Quantize a convolution's bias to int32, in units of one product of input and weight.

    Returns
    -------
    values : ndarray, int32, shape (outputs,)
    scale : ndarray, float32, shape of `weight_scale`
    """
    scale = np.asarray(data_scale * weight_scale, np.float32)
    codes = np.round(bias.astype(np.float64) / np.maximum(scale, np.finfo(np.float32).tiny))
    return np.clip(codes, -BIAS_LIMIT, BIAS_LIMIT).astype(np.int32), scale
