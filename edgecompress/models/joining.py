"""An encoder, and its decoder in a loop behind it, as one graph: a sound or a text in, tokens out.

The decoder becomes the body of ONNX's ``Loop``; its own cache is what the loop carries, and the
encoder's keys and values are read from outside, where what is made of them alone is made once. So a
answer is one inference: it runs wherever ONNX Runtime does, is timed and measured as any other
model, and no state goes through Python.

Source: https://onnx.ai/onnx/operators/onnx__Loop.html.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from edgecompress.errors import StageError
from edgecompress.models.joined_step import (
    CACHE,
    DECODER,
    NEXT,
    TIMES,
    Making,
    after,
    step_body,
    write_beginning,
    write_masks,
    write_times,
)
from edgecompress.models.storage import StoredModel, read_model, write_model
from edgecompress.modules.decoding import Decoding
from edgecompress.values import OnnxModel

ENCODER = "encoder"
OUTPUT = "tokens"
MASK, GIVEN_MASK = "attention_mask", "encoder_attention_mask"
"""What an encoder is told of the length of its rows, and its decoder under another name."""


def join(parts: Mapping[str, OnnxModel], how: Decoding, target: Path) -> None:
    """Write the graph that answers.

    Where the model writes times, its input ``timestamps``, a bool, says whether it shall; it may be
    left out. Its output ``tokens``, float32 (batch, steps, 2), has each token's number and its log
    probability among those that are allowed.

    Parameters
    ----------
    parts : mapping of str to OnnxModel
        ``encoder`` gives ``present.N.encoder.key`` and ``.value``; ``decoder`` takes ``input_ids``,
        ``past_key_values.N.…`` and, where the encoder takes an ``attention_mask``, the same as
        ``encoder_attention_mask``, and gives ``logits`` and ``present.N.decoder.…``.
    how : Decoding
    target : Path

    Raises
    ------
    StageError
        When the parts are others.
    """
    if set(parts) != {ENCODER, DECODER}:
        raise StageError(f"there are {', '.join(parts)}; joined are an encoder and a decoder")
    encoder, decoder = (read_model(parts[name].path) for name in (ENCODER, DECODER))
    first, second = encoder.proto.graph, decoder.proto.graph
    asked = list(first.input)
    kept = {one.name: one.name for one in asked}
    given = {one.name.replace(NEXT, CACHE): f"{ENCODER}{one.name}" for one in first.output}
    states = [one for one in second.input if one.name.startswith(CACHE) and one.name not in given]
    if MASK in kept:
        given[GIVEN_MASK] = MASK
    known = {one.name for one in second.output}
    left = {one.name for one in second.input} - {"input_ids", *given, *(one.name for one in states)}
    if (
        left
        or not states
        or not asked
        or "logits" not in known
        or any(after(one) not in known for one in states)
    ):
        raise StageError("the decoder's inputs and outputs are not those of an encoder's decoder")
    main, places = Making(), {}
    known_weights: dict[bytes, str] = {}
    for name, part, names in ((ENCODER, encoder, kept), (DECODER, decoder, given)):
        shared = _shared(part, name, known_weights)
        _put(main if name == ENCODER else None, part, name, {**names, **shared})
        for weight in part.proto.graph.initializer:
            old = weight.name
            if old in shared:
                continue
            weight.name = f"{name}{old}"
            if old in part.places:
                places[weight.name] = part.places[old]
            main.weights.append(weight)
    batch = main.node("Shape", [asked[0].name], "batch", start=0, end=1)
    pieces = _size(second.output, "logits", -1)
    main.constant("end", how.end)
    write_masks(main, how, pieces)
    if how.times is not None:
        write_times(main, how, pieces)
        asked.append(helper.make_tensor_value_info(TIMES, TensorProto.BOOL, []))
    main.nodes += _made_once(second, {*given.values(), *kept}, {one.name for one in main.weights})
    body = step_body(second, states, how)
    carried = write_beginning(main, how, states, batch)
    loop = helper.make_node(
        "Loop",
        [main.constant("steps", how.steps), main.constant("going", True, bool), *carried],
        [*(f"last_{number}" for number in range(len(carried))), "each_token", "each_score"],
        "/Loop",
        body=body,
    )
    main.nodes.append(loop)
    axis = main.constant("last_axis", [2])
    main.node("Cast", ["each_token"], "numbers", to=TensorProto.FLOAT)
    pair = [
        main.node("Unsqueeze", [one, axis], f"{one}_column") for one in ("numbers", "each_score")
    ]
    main.node("Concat", pair, "steps_first", axis=2)
    main.node("Transpose", ["steps_first"], OUTPUT, perm=[1, 0, 2])
    result = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch_size", "steps", 2])
    graph = helper.make_graph(main.nodes, "main_graph", asked, [result], main.weights)
    write_model(StoredModel(_model(graph, encoder.proto, decoder.proto), places), target)


def _shared(part: StoredModel, prefix: str, known: dict[bytes, str]) -> dict[str, str]:
    """Give the weights that another part holds as well, by their name there: a table of pieces."""
    found = {}
    for weight in part.proto.graph.initializer:
        if weight.name not in part.places:  # small ones lie in the graph
            continue
        array = part.array(weight)
        key = hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).digest()
        first = known.setdefault(key, f"{prefix}{weight.name}")
        if first != f"{prefix}{weight.name}":
            found[weight.name] = first
    return found


def _put(main: Making | None, part: StoredModel, prefix: str, kept: Mapping[str, str]) -> None:
    """Give all that a graph names names of its own; its nodes go into `main` where there is one."""

    def named(value: str) -> str:
        return kept.get(value, f"{prefix}{value}") if value else ""

    for node in part.proto.graph.node:
        if any(attribute.HasField("g") for attribute in node.attribute):
            raise StageError(f"the {prefix} holds a graph in a graph ({node.op_type})")
        node.name = f"/{prefix}{node.name}"
        node.input[:] = [named(one) for one in node.input]
        node.output[:] = [named(one) for one in node.output]
    if main is not None:
        main.nodes += part.proto.graph.node


def _made_once(decoder: GraphProto, known: set[str], weights: set[str]) -> list[NodeProto]:
    """Take those nodes out of a decoder that read nothing but what the encoder gave.

    They would be computed again at each step: keys are turned before they are multiplied. What
    makes numbers of integers stays beside the product that ONNX Runtime fuses it with.
    """
    once: list[NodeProto] = []
    for node in decoder.node:
        read = {*node.input} - {""} - weights
        if read and read <= known and node.op_type != "DequantizeLinear":
            once.append(node)
            known = known | {*node.output}
    kept = [node for node in decoder.node if node.output[0] not in known]
    del decoder.node[:]
    decoder.node.extend(kept)
    return once


def _size(values: Any, name: str, axis: int) -> int:
    found = next(one for one in values if one.name == name)
    size: int = found.type.tensor_type.shape.dim[axis].dim_value
    if not size:
        raise StageError(f"the decoder does not say how large {name} is")
    return size


def _model(graph: GraphProto, *parts: ModelProto) -> ModelProto:
    """Put a graph into a file of the highest versions that its parts ask for."""
    versions: dict[str, int] = {}
    for one in (entry for part in parts for entry in part.opset_import):
        versions[one.domain] = max(versions.get(one.domain, 0), one.version)
    opsets = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
    made: ModelProto = helper.make_model(
        graph, opset_imports=opsets, ir_version=max(part.ir_version for part in parts)
    )
    made.producer_name = "edgecompress"
    return made
