"""Logits for the last tokens only: generation reads one, and the vocabulary is large.

The graph gets an input ``num_logits_to_keep`` that has a default, 0 for all tokens. So whoever
knows nothing of it (evaluation, Optimum, ONNX Runtime GenAI) gets what it is used to, and there is
one graph for judging and for generating.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgecompress.generation.states import KEPT_LOGITS
from edgecompress.models.storage import StoredModel

END = 2**63 - 1


def keep_last_logits(model: StoredModel, output: str = "logits") -> bool:
    """Cut what the last linear layer before `output` is given, in place; say whether there is one.

    The layer's input is (batch, length, width), and (batch, kept, width) then.
    """
    graph = model.proto.graph
    made = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name for tensor in graph.initializer}
    last = _last_product(output, made, weights)
    if last is None or KEPT_LOGITS in weights:
        return False
    given, cut = last.input[0], f"{last.name or output}_kept"
    nodes = [
        helper.make_node("Neg", [f"{KEPT_LOGITS}_row"], [f"{cut}_from"], f"{cut}_Neg"),
        helper.make_node(
            "Slice",
            [given, f"{cut}_from", f"{cut}_to", f"{cut}_axis"],
            [cut],
            f"{cut}_Slice",
        ),
    ]
    nodes.insert(
        0,
        helper.make_node(
            "Reshape",
            [KEPT_LOGITS, f"{cut}_one"],
            [f"{KEPT_LOGITS}_row"],
            f"{cut}_Reshape",
        ),
    )
    last.input[0] = cut
    place = next(number for number, node in enumerate(graph.node) if node is last)
    for number, node in enumerate(nodes):
        graph.node.insert(place + number, node)
    constants = {f"{cut}_to": [END], f"{cut}_axis": [1], f"{cut}_one": [1]}
    for name, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int64), KEPT_LOGITS))
    graph.input.append(helper.make_tensor_value_info(KEPT_LOGITS, TensorProto.INT64, []))
    for value in graph.output:
        if value.name == output and value.type.tensor_type.shape.dim[1:2]:
            value.type.tensor_type.shape.dim[1].Clear()
            value.type.tensor_type.shape.dim[1].dim_param = "kept_length"
    return True


def _last_product(name: str, made: dict[str, NodeProto], weights: set[str]) -> NodeProto | None:
    """Find the product with a weight that a tensor comes from, element by element."""
    while (node := made.get(name)) is not None:
        source = made.get(node.input[1]) if len(node.input) > 1 else None
        turned = source is not None and source.op_type == "Transpose"
        weight = source.input[0] if source is not None and turned else "".join(node.input[1:2])
        if node.op_type == "MatMul" and weight in weights:
            return node
        plain = [one for one in node.input if one in made]
        if len(plain) != 1 or node.op_type in ("Gather", "Reshape", "Slice", "Transpose"):
            return None
        name = plain[0]
    return None
