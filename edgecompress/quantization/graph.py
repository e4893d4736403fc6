"""Look around in an ONNX graph: where a constant comes from, and what the inputs may hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onnx import TensorProto

from edgecompress.quantization.storage import read_model
from edgecompress.values import OnnxModel, TensorSpec

# A weight may stand behind these, or behind a DequantizeLinear that ONNX Runtime left alone.
TRANSPARENT = frozenset({"Transpose", "Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
ORT_TYPES = {
    TensorProto.INT64: "tensor(int64)",
    TensorProto.INT32: "tensor(int32)",
    TensorProto.FLOAT: "tensor(float)",
    TensorProto.FLOAT16: "tensor(float16)",
    TensorProto.BOOL: "tensor(bool)",
}


class Graph:
    """Look-ups in one graph and, behind it, the graphs around it."""

    def __init__(self, graph: Any, outer: Graph | None = None) -> None:
        self.nodes = list(graph.node)
        self.constants: dict[str, tuple[int, tuple[int, ...]]] = {
            tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in graph.initializer
        }
        self.makers = {name: node for node in self.nodes for name in node.output if name}
        self.outer = outer

    def constant(self, name: str) -> tuple[str, int, tuple[int, ...], bool] | None:
        """Trace `name` to a constant: its name, dtype, shape, and whether it is dequantized."""
        dequantized = False
        scope: Graph | None = self
        while scope is not None:
            if name in scope.constants:
                return (name, *scope.constants[name], dequantized)
            node = scope.makers.get(name)
            if node is None:
                scope = scope.outer
            elif node.op_type == "Constant":
                value = next((a.t for a in node.attribute if a.name == "value"), None)
                if value is None:
                    return None
                return name, value.data_type, tuple(value.dims), dequantized
            elif node.op_type == "DequantizeLinear" or node.op_type in TRANSPARENT:
                dequantized |= node.op_type == "DequantizeLinear"
                name = node.input[0]
            else:
                return None
        return None


def attribute(node: Any, name: str, default: int) -> int:
    """Give a node's integer attribute, or `default` where it has none."""
    return next((a.i for a in node.attribute if a.name == name), default)


def walk(graph: Any, outer: Graph | None = None) -> Iterator[tuple[Any, Graph]]:
    """Yield every node with its scope, those of subgraphs included."""
    scope = Graph(graph, outer)
    for node in scope.nodes:
        yield node, scope
        for found in node.attribute:
            if found.HasField("g"):
                yield from walk(found.g, scope)


def id_bounds(graph: Any) -> dict[str, int]:
    """Rows of the smallest table that each integer input indexes: ids must stay below it."""
    inputs = {value.name for value in graph.input}
    bounds: dict[str, int] = {}
    for node, scope in walk(graph):
        indices = {"Gather": (1, 0), "GatherBlockQuantized": (1, 0)}.get(node.op_type)
        pairs = [indices] if indices else []
        if node.op_type in {"EmbedLayerNormalization", "QEmbedLayerNormalization"}:
            pairs = [(0, 2), (1, 4)]
        for index, table in pairs:
            name, found = node.input[index], scope.constant(node.input[table])
            while name in scope.makers and scope.makers[name].op_type in {"Cast", "Identity"}:
                name = scope.makers[name].input[0]
            if name in inputs and found is not None and found[2]:
                bounds[name] = min(bounds.get(name, found[2][0]), found[2][0])
    return bounds


def stored_id_bounds(model: OnnxModel) -> dict[str, int]:
    """`id_bounds` of a file, without reading its weights."""
    return id_bounds(read_model(model.path).proto.graph)


def graph_specs(model: OnnxModel) -> tuple[TensorSpec, ...]:
    """Read the inputs of a file, named as a session would, without opening one."""
    graph = read_model(model.path).proto.graph
    weights = {tensor.name for tensor in graph.initializer}
    return tuple(
        TensorSpec(
            value.name,
            ORT_TYPES.get(value.type.tensor_type.elem_type, "unknown"),
            tuple(
                dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?"
                for dim in value.type.tensor_type.shape.dim
            ),
        )
        for value in graph.input
        if value.name not in weights
    )
