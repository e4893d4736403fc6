"""Where a factor for each channel of a linear layer's input can go without costing anything.

The constants before it may be divided by the factors if all that reads their result are the linear
layers whose weights are multiplied by them. A normalization's gamma and beta, the weight and bias
of a linear layer, the values of attention (which are only averaged), one factor of a gated product
and whatever stands before a ReLU qualify. GELU does not: gelu(x/s) is not gelu(x)/s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from onnx import NodeProto, TensorProto, numpy_helper

from edgecompress.models.storage import StoredModel
from edgecompress.quantization.graphs.layers import Layer, attributes, find_layers

LINEARS = frozenset({"matmul", "gemm", "attention"})
# Normalizations and where gamma and beta stand among their inputs.
NORMS = {
    "LayerNormalization": (1, 2),
    "SimplifiedLayerNormalization": (1,),
    "RMSNormalization": (1,),
    "SkipLayerNormalization": (2, 3),
    "SkipSimplifiedLayerNormalization": (2,),
    "EmbedLayerNormalization": (5, 6),
}
SLICE_WITH_STEPS = 5
"""Inputs of a Slice that may leave channels out, or turn them round."""
HEADS_FIRST = [0, 2, 1, 3]  # (batch, length, heads, size) ↔ (batch, heads, length, size)
NO_SPLIT = "Split before it does not take the factors"
LENGTH_FIRST = [2, 0, 1, 3]  # (batch, heads, length, size) → (length, batch, heads, size)


@dataclass(frozen=True, slots=True)
class Slot:
    """Part of a constant: `channels` of them from `start` on along `axis`, as `node` reads it."""

    node: str
    position: int
    axis: int
    start: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """Linear layers that share an input.

    Attributes
    ----------
    data : str
        The input, of shape (…, channels).
    channels : int
    layers : tuple of Layer
    weights : tuple of Slot
        Their weights; the axis of each is that of its inputs.
    folds : tuple of Slot
        What to divide by the factors; empty where there is nothing.
    refused : str
        Why there is nothing, or why the weights cannot be multiplied.
    looked_up : tuple of str
        Gather nodes that read the weight, too, as a table of rows.
    """

    data: str
    channels: int
    layers: tuple[Layer, ...]
    weights: tuple[Slot, ...]
    folds: tuple[Slot, ...] = ()
    refused: str = ""
    looked_up: tuple[str, ...] = ()


def find_groups(model: StoredModel, *, tables: bool = False) -> list[Group]:
    """List the linear layers of `model` by their input; all its nodes must have names.

    Parameters
    ----------
    model : StoredModel
    tables : bool
        Whether the columns of a table may be multiplied that a layer is tied to: who looks rows up
        in it must divide them.
    """
    return _Finder(model, tables=tables).groups()


class _NoFoldError(Exception):
    """The factors cannot be folded; the message says why."""


class _Finder:
    def __init__(self, model: StoredModel, *, tables: bool) -> None:
        graph = model.proto.graph
        self.model, self.tables = model, tables
        self.layers = find_layers(model)
        self.nodes: dict[str, NodeProto] = {node.name: node for node in graph.node}
        self.makers = {name: node for node in graph.node for name in node.output if name}
        self.outputs = {value.name for value in graph.output}
        self.sizes: Mapping[str, TensorProto] = {t.name: t for t in graph.initializer}
        self.readers: dict[str, list[NodeProto]] = {}
        self.nested: set[str] = set()
        for node in graph.node:
            for name in node.input:
                if node.op_type != "Shape":  # reads no values
                    self.readers.setdefault(name, []).append(node)
            for found in node.attribute:
                if found.HasField("g"):
                    self.nested |= {name for inner in found.g.node for name in inner.input}

    def groups(self) -> list[Group]:
        shared: dict[str, list[Layer]] = {}
        for layer in self.layers:
            if layer.kind in LINEARS and not layer.refused:
                shared.setdefault(layer.data, []).append(layer)
        return [self._group(data, tuple(layers)) for data, layers in shared.items()]

    def _group(self, data: str, layers: tuple[Layer, ...]) -> Group:
        first, tied = layers[0], self._look_ups(layers)
        channels = self.sizes[first.weights[0]].dims[1 if first.transposed else 0]
        try:
            weights = tuple(self._weight(layer, len(tied)) for layer in layers)
        except _NoFoldError as error:
            return Group(data, channels, layers, (), refused=str(error))
        try:
            folds = self._slots(data, channels, {layer.node for layer in layers})
        except _NoFoldError as error:
            return Group(data, channels, layers, weights, refused=str(error))
        return Group(data, channels, layers, weights, folds, looked_up=tied)

    def _look_ups(self, layers: Sequence[Layer]) -> tuple[str, ...]:
        """Nodes that look rows up in the weight, (outputs, channels), of an input's only layer."""
        if not self.tables or len(layers) > 1 or not layers[0].transposed:
            return ()
        return tuple(
            node.name
            for node in self.readers[layers[0].weights[0]]
            if node.op_type == "Gather" and attributes(node).get("axis", 0) == 0
        )

    def _weight(self, layer: Layer, look_ups: int = 0) -> Slot:
        node, position, flips = self.nodes[layer.node], 1, False
        while (name := node.input[position]) not in self.sizes:
            if len(self.readers[name]) > 1:
                raise _NoFoldError(f"its weight {name} is read by several nodes")
            node, position = self.makers[name], 0
            flips ^= node.op_type == "Transpose"
        if len(self.readers[name]) > 1 + look_ups or name in self.nested:
            raise _NoFoldError(f"its weight {name} is read by several nodes")
        stored = attributes(self.nodes[layer.node]).get("transB", 0) if layer.kind == "gemm" else 0
        return Slot(node.name, position, int(bool(stored) ^ flips))

    def _constant(self, name: str) -> TensorProto | None:
        """Find an initializer, also behind Identity, as exporters leave equal constants."""
        return self.sizes.get(_behind_identity(name, self.makers))

    def _alone(self, name: str, readers: set[str]) -> None:
        if name in self.outputs or name in self.nested:
            raise _NoFoldError(f"{name} is read outside the graph")
        other = [n for n in self.readers.get(name, ()) if n.name not in readers]
        if other:
            raise _NoFoldError(f"{other[0].name or other[0].op_type} reads its input, too")

    def _slots(self, name: str, channels: int, readers: set[str]) -> tuple[Slot, ...]:
        """Constants that, divided, divide the tensor `name`, which only `readers` may read."""
        self._alone(name, readers)
        node = self.makers.get(name)
        if node is not None and node.op_type == "Split":
            if slots := self._columns(node, name, channels):
                return slots
            raise _NoFoldError(NO_SPLIT)
        if node is None or node.output[0] != name:
            raise _NoFoldError("nothing before it takes the factors")
        op, only = node.op_type, {node.name}
        if op in NORMS:
            places = [p for p in NORMS[op] if len(node.input) > p and node.input[p]]
            return tuple(self._vector(node, place, channels) for place in places)
        if op in {"MatMul", "Gemm"} and (slots := self._linear(node, channels)):
            return slots
        if op == "Relu" or (op == "Slice" and len(node.input) < SLICE_WITH_STEPS):
            return self._slots(node.input[0], channels, only)  # of a Slice all channels, or none
        if op == "Add":
            return self._sum(node, channels)
        if op == "Mul":
            return self._product(node, channels)
        if op == "Reshape":
            try:  # only the rows are laid out otherwise, as before GPT-2's Gemm
                return self._slots(node.input[0], channels, only)
            except _NoFoldError:
                return self._heads(node, channels)
        if op == "Attention":
            return tuple(self._last(node, place, channels) for place in (1, 2))
        if op == "MultiHeadAttention" and len(node.input) > 2 and node.input[2]:
            bias = len(node.input) > 3 and bool(node.input[3])
            slots = (self._last(node, 3, channels),) if bias else ()
            return slots + self._slots(node.input[2], channels, only)
        raise _NoFoldError(f"{op} before it does not take the factors")

    def _vector(self, node: NodeProto, position: int, channels: int) -> Slot:
        tensor = self._constant(node.input[position])
        if tensor is None or list(tensor.dims) != [channels]:
            raise _NoFoldError(f"{node.name} has no constant of {channels} values there")
        return Slot(node.name, position, 0)

    def _last(self, node: NodeProto, position: int, channels: int) -> Slot:
        """Give the last `channels` of the last axis: the values among queries, keys and values."""
        tensor = self._constant(node.input[position])
        if tensor is None or not tensor.dims or tensor.dims[-1] < channels:
            raise _NoFoldError(f"{node.name} has no constant weights and bias")
        return Slot(node.name, position, len(tensor.dims) - 1, tensor.dims[-1] - channels)

    def _linear(self, node: NodeProto, channels: int) -> tuple[Slot, ...]:
        found = next((x for x in self.layers if x.node == node.name and x.kind in LINEARS), None)
        if found is None or found.refused:
            return ()
        weight = self._weight(found)
        tensor = self.sizes[found.weights[0]]
        if tensor.dims[1 - weight.axis] != channels:
            return ()
        slots: tuple[Slot, ...] = (Slot(weight.node, weight.position, 1 - weight.axis),)
        if node.op_type == "Gemm" and len(node.input) > 2 and node.input[2]:
            slots += (self._vector(node, 2, channels),)
        return slots

    def _columns(self, node: NodeProto, name: str, channels: int) -> tuple[Slot, ...]:
        """Columns of products that were joined: those that a Split gives under this name."""
        product = self._made_by("MatMul", node.input[0], node, NO_SPLIT)
        start, width = self._parted(node, name, -1, channels)
        return tuple(replace(slot, start=start) for slot in self._linear(product, width))

    def _parted(self, node: NodeProto, name: str, axis: int, channels: int) -> tuple[int, int]:
        """Where the `channels` of a Split's result begin in what it splits, and how many it has."""
        sizes = self.sizes.get(node.input[1]) if len(node.input) > 1 else None
        if sizes is None or attributes(node).get("axis", 0) != axis:
            raise _NoFoldError(NO_SPLIT)
        parts, place = self.model.array(sizes).tolist(), list(node.output).index(name)
        size = parts[place]  # in channels or, where heads are parted, in heads
        if size < 1 or channels % size or (axis == -1 and channels != size):
            raise _NoFoldError(NO_SPLIT)
        each = channels // size
        return each * sum(parts[:place]), each * sum(parts)

    def _sum(self, node: NodeProto, channels: int) -> tuple[Slot, ...]:
        for place in (0, 1):
            if self._constant(node.input[place]) is not None:
                bias = self._vector(node, place, channels)
                return (bias, *self._slots(node.input[1 - place], channels, {node.name}))
        raise _NoFoldError("it is a sum of two activations")

    def _product(self, node: NodeProto, channels: int) -> tuple[Slot, ...]:
        for place in (0, 1):
            if self._constant(node.input[place]) is not None:
                return (self._vector(node, place, channels),)
        for place in (1, 0):  # as y = act(gate) * up: the second factor is linear
            try:
                return self._slots(node.input[place], channels, {node.name})
            except _NoFoldError:
                continue
        raise _NoFoldError("neither factor of the product before it takes the factors")

    def _heads(self, node: NodeProto, channels: int) -> tuple[Slot, ...]:
        """Attention that is spelled out: heads are split, averaged over the text and joined."""
        reason = f"{node.name} is not attention's joining of heads"
        joined = self._made_by("Transpose", node.input[0], node, reason)
        perm = list(attributes(joined).get("perm", ()))
        if perm == LENGTH_FIRST:
            return self._length_first(joined, channels, reason)
        average = self._made_by("MatMul", joined.input[0], joined, reason)
        if perm != HEADS_FIRST or average.input[1] in self.sizes:
            raise _NoFoldError(reason)
        split = self._made_by("Transpose", average.input[1], average, reason)
        if list(attributes(split).get("perm", ())) != HEADS_FIRST:
            raise _NoFoldError(reason)
        values = self._made_by("Reshape", split.input[0], split, reason)
        return self._slots(values.input[0], channels, {values.name})

    def _length_first(self, joined: NodeProto, channels: int, reason: str) -> tuple[Slot, ...]:
        """Follow what `layout` writes: the product itself turns (length, batch, heads, size)."""
        average = self._made_by("FusedMatMul", joined.input[0], joined, reason)
        turned = {name for name, given in attributes(average).items() if name != "alpha" and given}
        if turned != {"transBatchB"}:
            raise _NoFoldError(reason)
        name, reader, start, width = average.input[1], average, 0, channels
        split = self.makers.get(name)
        if split is not None and split.op_type == "Split":  # of queries, keys and values
            self._alone(name, {average.name})
            start, width = self._parted(split, name, 2, channels)
            name, reader = split.input[0], split
        heads = self._made_by("Reshape", name, reader, reason)
        found = self._slots(heads.input[0], width, {heads.name})
        return tuple(replace(slot, start=slot.start + start) for slot in found)

    def _made_by(self, op: str, name: str, reader: NodeProto, reason: str) -> NodeProto:
        """Give the node that makes `name` for `reader` alone, which must be an `op`."""
        self._alone(name, {reader.name})
        node = self.makers.get(name)
        if node is None or node.op_type != op:
            raise _NoFoldError(reason)
        return node


def scale_slot(model: StoredModel, slot: Slot, factors: Any, taken: set[str]) -> None:
    """Multiply part of a constant by `factors`, float32 (channels,); others keep the old one.

    The graph of `model` is changed in place, its files are not.
    """
    graph = model.proto.graph
    node = next(found for found in graph.node if found.name == slot.node)
    makers = {name: found for found in graph.node for name in found.output}
    name = _behind_identity(node.input[slot.position], makers)
    tensor = next(found for found in graph.initializer if found.name == name)
    values = model.array(tensor).copy()
    part: list[Any] = [slice(None)] * values.ndim
    part[slot.axis] = slice(slot.start, slot.start + len(factors))
    shape = [1] * values.ndim
    shape[slot.axis] = len(factors)
    values[tuple(part)] *= factors.reshape(shape)
    made = f"{name}_smoothed"
    while made in taken:
        made += "_"
    taken.add(made)
    graph.initializer.append(numpy_helper.from_array(values, made))
    node.input[slot.position] = made


def _behind_identity(name: str, makers: Mapping[str, NodeProto]) -> str:
    while (node := makers.get(name)) is not None and node.op_type == "Identity":
        name = node.input[0]
    return name
