"""Look around in a graph that is rewritten: who makes a tensor, who reads it, what it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, helper, numpy_helper

from edgecompress.models.storage import StoredModel
from edgecompress.quantization.graphs.layers import attributes, names_read

Array = np.ndarray[Any, Any]
MOST_STEPS = 50


class Wiring:
    """The nodes of a graph by what they make and read, as it was when this was made."""

    def __init__(self, model: StoredModel) -> None:
        self.model, graph = model, model.proto.graph
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.outputs = {value.name for value in graph.output}
        self.makers: dict[str, NodeProto] = {}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            self.makers |= dict.fromkeys(node.output, node)
            for name in {*node.input} | names_read([node]) - {*node.input}:
                self.readers.setdefault(name, []).append(node)

    def made_by(self, name: str, *operators: str) -> NodeProto | None:
        """Give the node that makes a tensor, if it is one of these operators."""
        node = self.makers.get(name)
        return node if node is not None and node.op_type in operators else None

    def only_reader(self, name: str, *operators: str) -> NodeProto | None:
        """Give the one node that reads a tensor, if it is one of these operators."""
        nodes = self.readers.get(name, [])
        alone = len(nodes) == 1 and name not in self.outputs
        return nodes[0] if alone and nodes[0].op_type in operators else None

    def leads_only_to(self, node: NodeProto, end: NodeProto) -> bool:
        """Whether all that reads what a node makes, by however many steps, is for `end`."""
        pending, seen = [*node.output], {*node.output}
        while pending:
            name = pending.pop()
            if name in self.outputs or not self.readers.get(name):
                return False
            made = {n for each in self.readers[name] if each is not end for n in each.output}
            if len(seen) > MOST_STEPS:
                return False
            pending += made - seen
            seen |= made
        return True

    def turned(self, name: str, *perm: int) -> str | None:
        """Give what a Transpose of these axes reads, if it makes this tensor."""
        node = self.made_by(name, "Transpose")
        return node.input[0] if node and tuple(attributes(node).get("perm", ())) == perm else None

    def constant(self, name: str) -> Array | None:
        """Give the values of a small constant."""
        if name in self.tensors and name not in self.model.places:
            return numpy_helper.to_array(self.tensors[name])
        node = self.made_by(name, "Constant")
        value = attributes(node).get("value") if node else None
        return None if value is None else numpy_helper.to_array(value)

    def scalar(self, name: str) -> float | None:
        """Give the one number that a constant holds."""
        found = self.constant(name)
        return float(found.reshape(())) if found is not None and found.size == 1 else None

    def shape(self, name: str) -> list[int | None] | None:
        """Give the sizes that a Reshape is told: None for one that is computed, or −1."""
        found = self.constant(name)
        if found is not None:
            return [size if size >= 0 else None for size in found.tolist()]
        node = self.made_by(name, "Concat")
        if node is None:
            return None
        sizes: list[int | None] = []
        for part in node.input:
            held = self.constant(part)
            sizes += [None] if held is None else [n if n >= 0 else None for n in held.tolist()]
        return sizes

    def columns(self, name: str) -> int | None:
        """Give the width of what a linear layer makes: MatMul, with Add behind it or not."""
        product = self.product(name)
        weight = self.tensors.get(product.input[1]) if product else None
        return weight.dims[1] if weight is not None and len(weight.dims) == 2 else None

    def product(self, name: str) -> NodeProto | None:
        """Give the MatMul of the linear layer that makes a tensor."""
        node = self.made_by(name, "MatMul", "Add")
        if node is not None and node.op_type == "Add":
            found = [self.made_by(each, "MatMul") for each in node.input]
            node = next((each for each in found if each), None)
        return node


def put_constant(model: StoredModel, name: str, value: Any) -> str:
    """Add an initializer unless there is one of this name; give the name."""
    graph = model.proto.graph
    if all(tensor.name != name for tensor in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def replace_nodes(
    model: StoredModel, made: Mapping[int, Sequence[NodeProto]], gone: set[int]
) -> None:
    """Put nodes before others and take some away, then all that nobody reads any more.

    Parameters
    ----------
    model : StoredModel
        Changed in place.
    made : mapping of int to sequence of NodeProto
        By the index of the node that they are to stand before.
    gone : set of int
        Indices of nodes to remove.
    """
    graph = model.proto.graph
    nodes: list[NodeProto] = []
    for index, node in enumerate(graph.node):
        nodes += made.get(index, ())
        if index not in gone:
            nodes.append(node)
    kept: list[NodeProto] = []
    read = {value.name for value in graph.output}
    for node in reversed(nodes):
        if read & {*node.output}:
            kept.append(node)
            read |= names_read([node])
    del graph.node[:]
    graph.node.extend(reversed(kept))
    tensors = [tensor for tensor in graph.initializer if tensor.name in read]
    if len(tensors) != len(graph.initializer):
        for tensor in graph.initializer:
            if tensor.name not in read:
                model.places.pop(tensor.name, None)
        del graph.initializer[:]
        graph.initializer.extend(tensors)
    del graph.value_info[:]


def node(op: str, inputs: Sequence[str], name: str, **given: Any) -> NodeProto:
    """Make a node with one output of its own name."""
    return helper.make_node(op, list(inputs), [name], name, **given)
