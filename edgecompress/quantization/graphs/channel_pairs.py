"""Layers that follow each other so that a channel between them may be scaled at will.

What a convolution gives in channel i may be divided by s where the next layer's weights for that
channel are multiplied by s, and all in between gives f(x / s) = f(x) / s: ReLU and its leaky forms,
pooling, padding with zeros. A Clip to [0, u] is such a function for what lies below u. Source:
Nagel et al., 2019, "Data-free quantization through weight equalization and bias correction",
section 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

from edgecompress.models.storage import StoredModel
from edgecompress.quantization.graphs.layers import (
    Layer,
    attributes,
    find_layers,
    names_read_inside,
    readers_of,
)

Array = np.ndarray[Any, Any]

SCALABLE = frozenset(
    {"Relu", "LeakyRelu", "PRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool",
     "Identity", "Dropout"}
)  # fmt: skip
"""Give f(x / s) = f(x) / s, channel by channel."""
FLATTENING = frozenset({"Flatten", "Reshape", "Squeeze"})
"""Before a linear layer, whose inputs are then the channels."""
ENDS = frozenset({"conv", "gemm", "matmul"})


@dataclass(frozen=True, slots=True)
class Pair:
    """Two layers, and the channels between them.

    Attributes
    ----------
    first, second : Layer
    between : str
        What the second layer is given, of shape (batch, channels, …).
    channels : int
    bound : float
        Above it values are cut off; infinite where they are not.
    """

    first: Layer
    second: Layer
    between: str
    channels: int
    bound: float


def find_pairs(model: StoredModel, exclude: frozenset[str] = frozenset()) -> list[Pair]:
    """List the pairs of a graph in its order.

    Parameters
    ----------
    model : StoredModel
        `ready` for a plan.
    exclude : frozenset of str
        Names of nodes or weights that stay as they are.
    """
    return _Finder(model, exclude).pairs()


class _Finder:
    def __init__(self, model: StoredModel, exclude: frozenset[str]) -> None:
        graph = model.proto.graph
        self.model = model
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.nodes: Mapping[str, NodeProto] = {node.name: node for node in graph.node}
        self.constants = {n.output[0]: n for n in graph.node if n.op_type == "Constant"}
        self.readers = readers_of(graph.node)
        self.outside = {value.name for value in graph.output} | names_read_inside(graph.node)
        self.layers = {
            layer.node: layer
            for layer in find_layers(model)
            if layer.kind in ENDS
            and not layer.refused
            and not exclude & {layer.node, *layer.weights}
        }

    def pairs(self) -> list[Pair]:
        found = (self._pair(x) for x in self.layers.values() if x.kind == "conv")
        return [pair for pair in found if pair is not None]

    def _pair(self, first: Layer) -> Pair | None:
        node = self.nodes[first.node]
        if not self._owns(node, first):
            return None
        channels = int(self.tensors[first.weights[0]].dims[0])
        name, bound, flat = node.output[0], math.inf, False
        while True:
            if len(self.readers.get(name, ())) != 1 or name in self.outside:
                return None
            node = self.readers[name][0]
            if node.input[0] != name or len([one for one in node.output if one]) != 1:
                return None
            second = self.layers.get(node.name)
            if second is not None:
                fits = self._owns(node, second) and self._inputs(second) == channels
                return Pair(first, second, name, channels, bound) if fits else None
            if node.op_type in FLATTENING:
                flat = True
            elif flat or not self._scales(node):
                return None
            elif node.op_type == "Clip":
                bound = min(bound, self._bound(node))
            name = node.output[0]

    def _owns(self, node: NodeProto, layer: Layer) -> bool:
        """Whether nobody else reads the layer's weight and bias, and the weight is not turned."""
        constants = [name for name in node.input[1:] if name]
        alone = all(
            name in self.tensors and len(self.readers[name]) == 1 and name not in self.outside
            for name in constants
        )
        return alone and layer.weights[0] == node.input[1]

    def _inputs(self, layer: Layer) -> int:
        dims = self.tensors[layer.weights[0]].dims
        if layer.kind == "conv":
            return int(dims[1]) * groups_of(self.nodes[layer.node])
        return int(dims[1 if layer.transposed else 0])

    def _scales(self, node: NodeProto) -> bool:
        if node.op_type == "Pad":
            given = attributes(node)
            value = self._value(node.input[2]) if len(node.input) > 2 and node.input[2] else 0.0
            return given.get("value", 0.0) == 0 and value == 0 and len(node.input) < 4
        return node.op_type in SCALABLE or (node.op_type == "Clip" and self._bound(node) > 0)

    def _bound(self, node: NodeProto) -> float:
        """Give where a Clip from 0 ends; 0: it is none that begins there."""
        given = attributes(node)
        ends = [given.get("min"), given.get("max")]
        for place, name in enumerate(node.input[1:3]):
            if name:
                ends[place] = self._value(name)
                if ends[place] is None:
                    return 0.0
        low, high = ends
        return (math.inf if high is None else float(high)) if low == 0 else 0.0

    def _value(self, name: str) -> float | None:
        """Give a constant of one number."""
        tensor: Any = self.tensors.get(name)
        if tensor is None and name in self.constants:
            tensor = attributes(self.constants[name]).get("value")
        if not isinstance(tensor, TensorProto) or math.prod(tensor.dims) != 1:
            return None
        return float(numpy_helper.to_array(tensor).reshape(-1)[0])


def groups_of(node: NodeProto) -> int:
    """Give into how many groups a convolution divides its channels."""
    return int(attributes(node).get("group", 1))


def by_output(weight: Array, layer: Layer) -> Array:
    """Give a view of a layer's weight, shape (outputs, …)."""
    return weight if layer.kind == "conv" or layer.transposed else weight.T


def by_input(weight: Array, layer: Layer, groups: int) -> Array:
    """Give a view of a layer's weight, shape (groups, inputs / groups, outputs / groups, …)."""
    if layer.kind != "conv":
        return (weight.T if layer.transposed else weight)[None]
    outputs, inputs, *kernel = weight.shape
    apart = weight.reshape(groups, outputs // groups, inputs, *kernel)
    return np.swapaxes(apart, 1, 2)
