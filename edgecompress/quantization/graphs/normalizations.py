"""Fold batch normalizations into the convolutions before them, where an export left them.

Between a convolution and its activation they would stay in fp32 and cut a chain of integers at
every step; ONNX Runtime folds them itself only in a graph without QDQ pairs. Source: Jacob et al.,
"Quantization and training of neural networks …", 2018, section 3.2.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from onnx import TensorProto

from edgecompress.models.storage import StoredModel
from edgecompress.quantization.arithmetic.weights import array_tensor
from edgecompress.quantization.graphs.constants import lift
from edgecompress.quantization.graphs.layers import attributes, names_read_inside

Array = np.ndarray[Any, Any]
EPSILON = 1e-5
"""What the operator adds to the variance unless it is told otherwise."""


def fold_normalizations(model: StoredModel) -> None:
    """Fold what can be folded; `model` is changed in place, its files are not.

    A convolution then gives what the normalization behind it gave, under that name. It keeps its
    weight's name, unless others read that weight. Folded weights lie in memory.
    """
    graph = model.proto.graph
    normalizations = [node for node in graph.node if node.op_type == "BatchNormalization"]
    moments = {name for node in normalizations for name in node.input[1:]}
    lift(model, lambda name, _: name in moments)
    tensors = {t.name: t for t in graph.initializer if t.data_type == TensorProto.FLOAT}
    readers = Counter(name for node in graph.node for name in node.input if name)
    outside = {value.name for value in graph.output} | names_read_inside(graph.node)
    makers = {name: node for node in graph.node for name in node.output if name}
    dropped = []
    for node in graph.node:
        if node.op_type != "BatchNormalization" or len(node.input) != 5:
            continue
        before = makers.get(node.input[0])
        if before is None or before.op_type != "Conv" or not _infers(node):
            continue
        constants = [*before.input[1:], *node.input[1:]]
        alone = readers[node.input[0]] == 1 and node.input[0] not in outside
        if not alone or not all(name in tensors for name in constants):
            continue
        mean, variance, gamma, beta = (model.array(tensors[node.input[n]]) for n in (3, 4, 1, 2))
        epsilon = attributes(node).get("epsilon", EPSILON)
        factor = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
        weight = model.array(tensors[before.input[1]]).astype(np.float64)
        bias = model.array(tensors[before.input[2]]) if len(before.input) > 2 else np.zeros(1)
        folded = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        moved = (bias.astype(np.float64) - mean) * factor + beta
        if not (np.isfinite(folded).all() and np.isfinite(moved).all()):
            continue
        name, out = before.input[1], node.output[0]
        if readers[name] > 1 or name in outside:
            name = f"{out}_folded_weight"
        parts = {name: folded, f"{out}_folded_bias": moved}
        for part, array in parts.items():
            _put(graph, part, array)
            model.places.pop(part, None)
        before.input[:] = [before.input[0], *parts]
        before.output[0] = out
        dropped.append(node)
    for node in dropped:
        graph.node.remove(node)


def _infers(node: Any) -> bool:
    """Whether a normalization uses the moments that it is given, and gives nothing else."""
    given = attributes(node)
    plain = len([name for name in node.output if name]) == 1 and given.get("spatial", 1) == 1
    return plain and not given.get("training_mode", 0)


def _put(graph: Any, name: str, array: Array) -> None:
    """Set an initializer."""
    tensor = next((t for t in graph.initializer if t.name == name), None)
    made = array_tensor(array.astype(np.float32), name)
    (graph.initializer.add() if tensor is None else tensor).CopyFrom(made)
