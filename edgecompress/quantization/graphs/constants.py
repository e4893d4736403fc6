"""Weights that exporters leave in Constant nodes or behind an Identity become initializers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper

from edgecompress.models.storage import StoredModel
from edgecompress.quantization.graphs.layers import attributes

BIAS_OF_CONV = 2
"""Its place among the inputs of a Conv."""


def lift_constants(model: StoredModel) -> None:
    """Turn Constant nodes that hold matrices or biases of convolutions into initializers.

    Initializers behind an Identity (exporters write equal ones once) are read directly.
    """
    biases = _biases(model)
    lift(model, lambda name, tensor: len(tensor.dims) >= 2 or name in biases)
    same = {tensor.name: tensor.name for tensor in model.proto.graph.initializer}
    for node in model.proto.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = same.get(name, name)
        if node.op_type == "Identity" and node.input[0] in same:
            same[node.output[0]] = node.input[0]


def lift_large(model: StoredModel, least_values: int) -> None:
    """Turn Constant nodes of at least so many fp32 values into initializers."""
    lift(model, lambda _, tensor: math.prod(tensor.dims) >= least_values)


def lift(model: StoredModel, wanted: Callable[[str, TensorProto], bool]) -> None:
    """Turn the Constant nodes of fp32 tensors that are `wanted`, by name and value."""
    graph = model.proto.graph
    kept = []
    for node in graph.node:
        value = _held(node)
        if value is not None and wanted(node.output[0], value):
            tensor = graph.initializer.add()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
        else:
            kept.append(node)
    if len(kept) != len(graph.node):
        del graph.node[:]
        graph.node.extend(kept)


def _held(node: Any) -> TensorProto | None:
    """Give the fp32 tensor of a Constant node, of the two spellings that it has."""
    if node.op_type != "Constant":
        return None
    given = attributes(node)
    value = given.get("value")
    if isinstance(value, TensorProto) and value.data_type == TensorProto.FLOAT:
        return value
    if "value_floats" in given:
        return numpy_helper.from_array(np.array(given["value_floats"], np.float32))
    return None


def _biases(model: StoredModel) -> set[str]:
    """Names of the tensors that convolutions add, also before an Identity."""
    nodes = model.proto.graph.node
    before = {n.output[0]: n.input[0] for n in nodes if n.op_type == "Identity" and n.input}
    found = {
        node.input[BIAS_OF_CONV]
        for node in nodes
        if node.op_type == "Conv" and len(node.input) > BIAS_OF_CONV
    }
    pending = list(found)
    while pending:
        name = before.get(pending.pop())
        if name is not None and name not in found:
            found.add(name)
            pending.append(name)
    return found
