"""Keys and values in 8 or 16 bits: a quarter or a half of the memory that a long text takes.

`GroupQueryAttention` keeps them in 8 bits by itself: it is given a scale for each channel of each
head, rounds what it appends, and multiplies with the integers. In 16 bits it keeps them where it
computes in them: queries, keys and values of the new tokens become fp16 before it, what it gives
becomes fp32 behind.
Source: ``docs/ContribOperators.md`` of ONNX Runtime, "com.microsoft.GroupQueryAttention".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from edgecompress.models.storage import StoredModel
from edgecompress.quantization.arithmetic.weights import array_tensor

PAST_KEY, PAST_VALUE, KEY_SCALE, VALUE_SCALE = 3, 4, 12, 13
"""Places among the inputs of the kernel."""
LARGEST = 127.0


def attentions(model: StoredModel) -> list[NodeProto]:
    """Give the attentions of a graph that keep what they have read in floats."""
    inputs = {value.name for value in model.proto.graph.input}
    return [
        node
        for node in model.proto.graph.node
        if node.op_type == "GroupQueryAttention"
        and {*node.input[PAST_KEY : PAST_VALUE + 1]} <= inputs
        and len(node.input) <= KEY_SCALE
    ]


def kept_outputs(nodes: Sequence[NodeProto]) -> list[str]:
    """Name what the attentions keep: keys and values of each in turn."""
    return [name for node in nodes for name in node.output[1:3]]


def scales_of(largest: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Give the scales of channels, float32, from their largest absolute values."""
    return np.maximum(largest.astype(np.float32) / LARGEST, np.finfo(np.float32).tiny)


def write_cache(model: StoredModel, largest: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Have keys and values kept in 8 bits, in place.

    Parameters
    ----------
    model : StoredModel
    largest : mapping of str to ndarray
        Of each of `kept_outputs` the largest absolute value of each channel, (heads, size).
    """
    graph = model.proto.graph
    types = {value.name: value.type.tensor_type for value in (*graph.input, *graph.output)}
    for node in attentions(model):
        node.input.extend([""] * (VALUE_SCALE + 1 - len(node.input)))
        for place, past, output in (
            (KEY_SCALE, PAST_KEY, node.output[1]),
            (VALUE_SCALE, PAST_VALUE, node.output[2]),
        ):
            name = f"{output}_scale"
            scale = scales_of(largest[output])[None, :, None, :]
            graph.initializer.append(array_tensor(scale, name))
            node.input[place] = name
            types[node.input[past]].elem_type = TensorProto.INT8
            types[output].elem_type = TensorProto.INT8
        given: dict[str, str | int] = {"kv_cache_bit_width": 8}
        given |= {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL"}
        node.attribute.extend(helper.make_attribute(key, value) for key, value in given.items())


COMPUTED = (0, 1, 2, 7, 8)
"""Places of queries, keys, values, cosines and sines among the inputs of the kernel."""


def write_half_cache(model: StoredModel) -> None:
    """Have keys and values kept in fp16, in place; attention computes in it, too."""
    graph = model.proto.graph
    types = {value.name: value.type.tensor_type for value in (*graph.input, *graph.output)}
    chosen, nodes, made = {node.name for node in attentions(model)}, [], set()
    for node in graph.node:
        if node.name not in chosen:
            nodes.append(node)
            continue
        for place in COMPUTED:
            name = node.input[place] if place < len(node.input) else ""
            if not name:
                continue
            node.input[place] = half = f"{name}_half"
            if half not in made:
                made.add(half)
                cast = helper.make_node("Cast", [name], [half], half, to=TensorProto.FLOAT16)
                nodes.append(cast)
        for kept in (*node.input[PAST_KEY : PAST_VALUE + 1], *node.output[1:3]):
            types[kept].elem_type = TensorProto.FLOAT16
        given, node.output[0] = node.output[0], f"{node.output[0]}_half"
        nodes.append(node)
        whole = helper.make_node("Cast", [node.output[0]], [given], given, to=TensorProto.FLOAT)
        nodes.append(whole)
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
