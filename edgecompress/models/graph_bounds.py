"""Which inputs of a graph are used as indices, and how many values each may have.

An id that goes into a Gather on a table of 30 000 rows must be below 30 000. It is followed there
through operators that keep its values, into subgraphs and out of them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# fmt: off
KEEP = frozenset({
    "Identity", "Cast", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose", "Slice",
    "Expand", "Tile", "Split", "Gather", "GatherElements", "GatherND", "Clip", "Compress", "Pad",
    "ReverseSequence", "Dropout", "Trilu",
})
# fmt: on
"""Operators whose outputs hold values of their first input."""

JOIN = frozenset({"Concat", "Where", "Max", "Min"})
"""Operators whose output holds values of any of their inputs."""

TABLE = frozenset({"Identity", "Cast", "DequantizeLinear", "QuantizeLinear"})
"""Operators whose output is a table of the same shape as their first input."""

BY_VALUE = frozenset({"Add", "Div", "Mul", "Sub"})
"""Operators whose output has the shape that both inputs are stretched to."""

MOST_AXES = 8
"""Of a tensor that a Reshape makes."""

EMBEDDINGS = ((0, 2), (1, 4), (8, 3))
"""Ids and tables among the inputs of com.microsoft's EmbedLayerNormalization."""


@dataclass(slots=True)
class _Scope:
    """What is known of the values of a graph: an inner graph has a copy of its outer one's.

    Attributes
    ----------
    functions : dict
        The model's local functions by domain and name.
    roots : dict
        The inputs of the model that a value was taken from.
    shapes : dict
        Of constants, and of values whose sizes are all fixed.
    numbers : dict
        Constants of a few whole numbers, such as the shape that a Reshape makes.
    """

    functions: dict[tuple[str, str], Any]
    roots: dict[str, frozenset[str]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    numbers: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def inner(self) -> _Scope:
        """Give the scope that a subgraph starts with."""
        return _Scope(self.functions, dict(self.roots), dict(self.shapes), dict(self.numbers))

    def take(self, name: str, other: _Scope, there: str) -> None:
        """Remember of `name` what `other` knows of the value that it calls `there`."""
        self.roots[name] = other.of([there])
        if there in other.shapes:
            self.shapes[name] = other.shapes[there]
        if there in other.numbers:
            self.numbers[name] = other.numbers[there]

    def constant(self, name: str, tensor: Any) -> None:
        """Remember a constant."""
        import onnx

        self.shapes[name] = tuple(tensor.dims)
        self.roots.pop(name, None)  # an input with a default, or a name of the outer graph
        most = MOST_AXES if tensor.data_type == onnx.TensorProto.INT64 else 1
        if 0 < math.prod(tensor.dims) <= most and not tensor.external_data:
            value = onnx.numpy_helper.to_array(tensor)
            if value.dtype.kind in "iu":
                self.numbers[name] = tuple(value.ravel().tolist())

    def of(self, names: Iterable[str]) -> frozenset[str]:
        """Give the inputs of the model that values were taken from."""
        return frozenset().union(*(self.roots.get(name, frozenset()) for name in names))


def index_bounds(model: Any) -> dict[str, int]:
    """Find for each input of an ONNX model how many values it may have as an index.

    Parameters
    ----------
    model : onnx.ModelProto

    Returns
    -------
    dict of str to int
        The smallest table that an input's values go into; inputs that are no index are left out.
    """
    found: dict[str, int] = {}
    functions = {(function.domain, function.name): function for function in model.functions}
    roots = {value.name: frozenset({value.name}) for value in model.graph.input}
    scope = _Scope(functions, roots)
    _follow(model.graph, scope, found)
    return found


def _follow(graph: Any, scope: _Scope, found: dict[str, int]) -> None:
    """Go through `graph` in order; `found` gets the smallest bound of each input."""
    for tensor in getattr(graph, "initializer", ()):  # a local function has none
        scope.constant(tensor.name, tensor)
    for value in getattr(graph, "value_info", ()):
        sizes = [size.dim_value for size in value.type.tensor_type.shape.dim]
        if sizes and all(sizes):
            scope.shapes.setdefault(value.name, tuple(sizes))
    for node in graph.node:
        for indices, bound in _uses(node, scope):
            for name in scope.of([indices]):
                found[name] = min(found.get(name, bound), bound)
        _constants(node, scope)
        if node.op_type in KEEP:
            scope.roots |= dict.fromkeys(node.output, scope.of(node.input[:1]))
        elif node.op_type in JOIN:
            scope.roots |= dict.fromkeys(node.output, scope.of(node.input))
        if (node.domain, node.op_type) in scope.functions:
            _call(node, scope, found)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    _enter(node, inner, scope, found)


def _enter(node: Any, inner: Any, scope: _Scope, found: dict[str, int]) -> None:
    """Follow values into a subgraph, which sees its outer graph's names, and out of it."""
    within = scope.inner()
    if node.op_type in ("Loop", "Scan"):
        for value, name in zip(inner.input, node.input, strict=False):
            within.roots[value.name] = scope.of([name])  # shape and value change by the turn
    _follow(inner, within, found)
    ahead = 1 if node.op_type == "Loop" else 0  # a loop's body gives its condition first
    for name, value in zip(node.output, inner.output[ahead:], strict=False):
        scope.roots[name] = scope.of([name]) | within.of([value.name])


def _call(node: Any, scope: _Scope, found: dict[str, int]) -> None:
    """Follow values into a local function, which sees nothing else, and out of it."""
    functions = dict(scope.functions)
    body = functions.pop((node.domain, node.op_type))  # a function cannot call itself
    within = _Scope(functions)
    for name, given in zip(body.input, node.input, strict=False):
        within.take(name, scope, given)
    _follow(body, within, found)
    for name, given in zip(node.output, body.output, strict=False):
        scope.take(name, within, given)


def _uses(node: Any, scope: _Scope) -> list[tuple[str, int]]:
    """Say which inputs of a node are indices, and below what."""
    names: Sequence[str] = node.input
    if node.op_type in ("Gather", "GatherElements"):
        return _below(names[1], scope.shapes.get(names[0]), _attribute(node, "axis"))
    if node.op_type == "GatherBlockQuantized":
        return _below(names[1], scope.shapes.get(names[0]), _attribute(node, "gather_axis"))
    if node.op_type == "GatherND" and not _attribute(node, "batch_dims"):
        last = (scope.shapes.get(names[1]) or (0,))[-1]
        return _below(names[1], scope.shapes.get(names[0]), 0) if last == 1 else []
    if node.op_type == "OneHot":
        depth = scope.numbers.get(names[1], ())
        return [(names[0], depth[0])] if len(depth) == 1 and depth[0] > 0 else []
    if "EmbedLayerNormalization" in node.op_type:
        return [
            use
            for index, table in EMBEDDINGS
            if max(index, table) < len(names)
            for use in _below(names[index], scope.shapes.get(names[table]), 0)
        ]
    return []


def _below(indices: str, shape: tuple[int, ...] | None, axis: int) -> list[tuple[str, int]]:
    if not shape or not -len(shape) <= axis < len(shape) or not shape[axis]:
        return []
    return [(indices, shape[axis])]


def _constants(node: Any, scope: _Scope) -> None:
    """Remember what a node gives, where that is a constant or a table."""
    if node.op_type == "Constant":
        for attribute in node.attribute:
            if attribute.name == "value":
                scope.constant(node.output[0], attribute.t)
            elif attribute.name == "value_int":
                scope.numbers[node.output[0]] = (attribute.i,)
    elif node.op_type in TABLE and node.input[0] in scope.shapes:
        scope.shapes[node.output[0]] = scope.shapes[node.input[0]]
        if node.input[0] in scope.numbers:
            scope.numbers[node.output[0]] = scope.numbers[node.input[0]]
    elif node.op_type in BY_VALUE and all(name in scope.shapes for name in node.input):
        with contextlib.suppress(ValueError):  # no valid graph
            both = (scope.shapes[name] for name in node.input)
            scope.shapes[node.output[0]] = np.broadcast_shapes(*both)
    elif node.op_type == "Reshape" and min(scope.numbers.get(node.input[1], (0,))) > 0:
        scope.shapes[node.output[0]] = scope.numbers[node.input[1]]
    elif node.op_type == "Transpose" and node.input[0] in scope.shapes:
        shape = scope.shapes[node.input[0]]
        order = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
        order = order or list(range(len(shape)))[::-1]
        scope.shapes[node.output[0]] = tuple(shape[axis] for axis in order)


def _attribute(node: Any, name: str) -> int:
    return next((int(found.i) for found in node.attribute if found.name == name), 0)
