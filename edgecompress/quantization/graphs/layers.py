"""Find the linear layers, convolutions and embeddings of a stored graph that can be quantized."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from onnx import TensorProto, helper

from edgecompress.models.storage import StoredModel

Kind = Literal["matmul", "gemm", "attention", "conv", "lstm", "table", "embed_layer_norm"]


@dataclass(frozen=True, slots=True)
class Layer:
    """A node whose constant weight can become int8.

    Attributes
    ----------
    kind : str
        How it is rewritten.
    node : str
    data : str
        The tensor that is multiplied (or the indices that are looked up).
    weights : tuple of str
        Initializers: one; of a recurrent layer those of its input and of its state; the tables,
        gamma and beta of an embedding with its normalization.
    transposed : bool
        The initializer has shape (outputs, inputs).
    refused : str
        Why it must stay as it is; empty where it can be quantized.
    """

    kind: Kind
    node: str
    data: str
    weights: tuple[str, ...]
    transposed: bool = False
    refused: str = ""


OF_OFFSETS = "/of_offsets"
"""Ends the names of products that belong to a weight in blocks with offsets, and are no layers."""
INSIDE = "; {:,} values of its weights lie inside If or Loop, whose graphs stay as they are"
"""What is said of a graph of which nothing else can be quantized."""


def name_nodes(model: StoredModel) -> None:
    """Give every nameless node of the graph a name: layers are known by their nodes."""
    taken = {node.name for node in model.proto.graph.node}
    for index, node in enumerate(model.proto.graph.node):
        if not node.name:
            number = index
            while f"{node.op_type}_{number}" in taken:
                number += len(taken)
            node.name = f"{node.op_type}_{number}"
            taken.add(node.name)


def names_read(nodes: Iterable[Any]) -> set[str]:
    """Names that nodes read, their subgraphs (and what these give) included."""
    names: set[str] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        names.update(node.input)
        for found in node.attribute:
            for inner in (found.g, *found.graphs):
                pending.extend(inner.node)
                names.update(value.name for value in inner.output)
    return names


def readers_of(nodes: Iterable[Any]) -> dict[str, list[Any]]:
    """Give the nodes that read each tensor; subgraphs are not looked into."""
    found: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            found.setdefault(name, []).append(node)
    return found


def names_read_inside(nodes: Iterable[Any]) -> set[str]:
    """Names that subgraphs of nodes read, whether they are theirs or of the graph around."""
    subgraphs = [
        inner for node in nodes for found in node.attribute for inner in (found.g, *found.graphs)
    ]
    outputs = {value.name for inner in subgraphs for value in inner.output}
    return names_read(node for inner in subgraphs for node in inner.node) | outputs


def values_inside(nodes: Iterable[Any]) -> int:
    """Count the fp32 numbers that the subgraphs of nodes hold as weights of their own."""
    total, pending = 0, [(node, False) for node in nodes]
    while pending:
        node, inside = pending.pop()
        for found in node.attribute:
            held = [found.t] if inside and node.op_type == "Constant" else []
            for inner in (found.g, *found.graphs):
                pending.extend((each, True) for each in inner.node)
                held += inner.initializer
            floats = (t for t in held if t.data_type == TensorProto.FLOAT and len(t.dims) > 1)
            total += sum(math.prod(tensor.dims) for tensor in floats)
    return total


def attributes(node: Any) -> dict[str, Any]:
    """Values of a node's attributes by name."""
    return {found.name: helper.get_attribute_value(found) for found in node.attribute}


def turns_a_matrix(node: Any) -> bool:
    """Whether a Transpose of two axes swaps them: it may also be told to leave them (0, 1)."""
    return list(attributes(node).get("perm", (1, 0))) == [1, 0]


def find_layers(model: StoredModel) -> list[Layer]:
    """List the layers of `model` in the graph's order; all its nodes must have names."""
    graph = model.proto.graph
    floats = {
        tensor.name: len(tensor.dims)
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    }
    makers = {name: node for node in graph.node for name in node.output}

    def weight(name: str) -> tuple[str, bool] | None:
        transposed = False
        while name not in floats:
            node = makers.get(name)
            if node is None or node.op_type not in {"Transpose", "Identity"}:
                return None
            transposed ^= node.op_type == "Transpose" and turns_a_matrix(node)
            name = node.input[0]
        return (name, transposed) if floats[name] == 2 else None

    found: list[Layer] = []
    for node in graph.node:
        if node.op_type == "MatMul" and (right := weight(node.input[1])):
            found.append(Layer("matmul", node.name, node.input[0], (right[0],), right[1]))
        elif node.op_type == "Gemm" and (right := weight(node.input[1])):
            found.append(_gemm(node, *right))
        elif node.op_type == "Attention" and (right := weight(node.input[1])):
            refused = _refuse_attention(node) or ("transposed weight" if right[1] else "")
            found.append(Layer("attention", node.name, node.input[0], (right[0],), refused=refused))
        elif node.op_type == "Conv" and floats.get(node.input[1], 0) > 2:
            bias = node.input[2] if len(node.input) > 2 else ""
            refused = "its bias is no constant" if bias and bias not in floats else ""
            weights = (node.input[1],)
            found.append(Layer("conv", node.name, node.input[0], weights, refused=refused))
        elif node.op_type == "LSTM" and all(floats.get(name) == 3 for name in node.input[1:3]):
            backwards = attributes(node).get("layout", 0)
            refused = "an LSTM with the batch first has no int8 kernel" if backwards else ""
            weights = tuple(node.input[1:3])
            found.append(Layer("lstm", node.name, node.input[0], weights, refused=refused))
        elif node.op_type == "Gather" and (table := weight(node.input[0])):
            if attributes(node).get("axis", 0) == 0 and not table[1]:
                found.append(Layer("table", node.name, node.input[1], (table[0],)))
        elif node.op_type == "EmbedLayerNormalization":
            found.append(_embed_layer_norm(node, floats))
    return found


def _gemm(node: Any, name: str, transposed: bool) -> Layer:
    given = attributes(node)
    plain = given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0 and not given.get("transA")
    transposed ^= bool(given.get("transB", 0))
    refused = "" if plain else "a Gemm with alpha, beta or transA has no int8 form here"
    return Layer("gemm", node.name, node.input[0], (name,), transposed, refused)


def _refuse_attention(node: Any) -> str:
    # What com.microsoft.Attention has and QAttention has not.
    given = attributes(node)
    sizes = list(given.get("qkv_hidden_sizes", ()))
    if len(set(sizes)) > 1:
        return "attention whose queries and values differ in width has no int8 kernel"
    if given.get("scale"):
        return "attention with a scale of its own has no int8 kernel"
    if len(node.input) > 5 and node.input[5]:
        return "attention with an additive bias has no int8 kernel"
    return ""


def _embed_layer_norm(node: Any, floats: dict[str, int]) -> Layer:
    names = tuple(node.input[2:7])
    refused = ""
    if len([name for name in node.output if name]) > 2:
        refused = "its third output has no int8 form"
    elif any(name and name not in floats for name in names):
        refused = "its tables are not constant fp32"
    return Layer("embed_layer_norm", node.name, node.input[0], names, refused=refused)
