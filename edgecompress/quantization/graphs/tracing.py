"""Look around in an ONNX graph: where a constant comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# A weight may stand behind these, or behind a DequantizeLinear that ONNX Runtime left alone.
TRANSPARENT = frozenset({"Transpose", "Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"})


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
