"""An encoder, and its decoder in a loop behind it, as one graph: sound in, tokens out.

The decoder becomes the body of ONNX's ``Loop``; its own cache is what the loop carries, and the
encoder's keys and values are read from outside, where what is made of them alone is made once. So a
transcript is one inference: it runs wherever ONNX Runtime does, is timed and measured as any other
model, and no state goes through Python.

Source: https://onnx.ai/onnx/operators/onnx__Loop.html.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgecompress.errors import StageError
from edgecompress.models.storage import StoredModel, read_model, write_model
from edgecompress.modules.speech_files import Decoding
from edgecompress.values import OnnxModel

ENCODER, DECODER = "encoder", "decoder"
CACHE, NEXT = "past_key_values.", "present."
OUTPUT = "tokens"
INFINITE = np.float32(-np.inf)


@dataclass
class _Graph:
    """Nodes and weights in the making; `constant` and `node` give the names of what they make."""

    nodes: list[NodeProto] = field(default_factory=list)
    weights: list[TensorProto] = field(default_factory=list)

    def constant(self, name: str, value: Any, dtype: Any = np.int64) -> str:
        self.weights.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, **given: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], f"/{output}", **given))
        return output


def join(parts: Mapping[str, OnnxModel], how: Decoding, target: Path) -> None:
    """Write the graph that transcribes.

    Its output ``tokens``, float32 (batch, steps, 2), has each token's number and its log
    probability among those that are allowed.

    Parameters
    ----------
    parts : mapping of str to OnnxModel
        ``encoder`` gives ``present.N.encoder.key`` and ``.value``; ``decoder`` takes ``input_ids``
        and ``past_key_values.N.…`` and gives ``logits`` and ``present.N.decoder.…``.
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
    (sound,) = first.input
    given = {one.name.replace(NEXT, CACHE): f"{ENCODER}{one.name}" for one in first.output}
    states = [one for one in second.input if one.name.startswith(CACHE) and one.name not in given]
    known = {one.name for one in second.output}
    left = {one.name for one in second.input} - {"input_ids", *given, *(one.name for one in states)}
    if (
        left
        or not states
        or "logits" not in known
        or any(_after(one) not in known for one in states)
    ):
        raise StageError("the decoder's inputs and outputs are not those of an encoder's decoder")
    main, places = _Graph(), {}
    for name, part, kept in (
        (ENCODER, encoder, {sound.name: sound.name}),
        (DECODER, decoder, given),
    ):
        _put(main if name == ENCODER else None, part, name, kept)
        for weight in part.proto.graph.initializer:
            old = weight.name
            weight.name = f"{name}{old}"
            if old in part.places:
                places[weight.name] = part.places[old]
            main.weights.append(weight)
    batch = main.node("Shape", [sound.name], "batch", start=0, end=1)
    _masks(main, how, _size(second.output, "logits", -1))
    main.nodes += _made_once(second, set(given.values()))
    body = _body(second, states)
    carried = _beginning(main, how, states, batch)
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
    graph = helper.make_graph(main.nodes, "main_graph", [sound], [result], main.weights)
    write_model(StoredModel(_model(graph, encoder.proto, decoder.proto), places), target)


def _after(state: Any) -> str:
    return str(state.name).replace(CACHE, NEXT)


def _put(main: _Graph | None, part: StoredModel, prefix: str, kept: Mapping[str, str]) -> None:
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


def _made_once(decoder: GraphProto, known: set[str]) -> list[NodeProto]:
    """Take those nodes out of a decoder that read nothing but what the encoder gave.

    They would be computed again at each step: keys are turned before they are multiplied. What
    makes numbers of integers stays beside the product that ONNX Runtime fuses it with.
    """
    weights = {one.name for one in decoder.initializer}
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


def _masks(main: _Graph, how: Decoding, pieces: int) -> None:
    """Make what is added to the logits at each step: float (steps, pieces), 0 or minus infinity."""
    shape = main.constant("pieces", [pieces])

    def filled(name: str, value: np.float32) -> str:
        tensor = numpy_helper.from_array(np.array([value], np.float32))
        return main.node("ConstantOfShape", [shape], name, value=tensor)

    def changed(base: str, tokens: Sequence[int], value: np.float32, name: str) -> str:
        ids = main.constant(f"{name}_ids", tokens)
        values = main.constant(f"{name}_values", [value] * len(tokens), np.float32)
        return main.node("ScatterElements", [base, ids, values], name, axis=0)

    rows = []
    if how.forced:
        closed = filled("closed", INFINITE)
        for number, allowed in enumerate(how.forced):
            rows.append(changed(closed, allowed, np.float32(0), f"forced_{number}"))
    usual = changed(filled("open", np.float32(0)), how.suppressed, INFINITE, "usual")
    rows += [changed(usual, how.first_suppressed, INFINITE, "first"), usual]
    axis = main.constant("first_axis", [0])
    main.constant("last_row", len(rows) - 1)
    each = [main.node("Unsqueeze", [row, axis], f"{row}_row") for row in rows]
    main.node("Concat", each, "masks", axis=0)


def _beginning(main: _Graph, how: Decoding, states: Sequence[Any], batch: str) -> list[str]:
    """Make what the first step is given: the token before all others, and empty caches."""
    one = main.constant("one", [1])
    main.constant("end", how.end)
    column = main.node("Concat", [batch, one], "column", axis=0)
    carried = [
        main.node("Expand", [main.constant("start", [[how.start]]), column], "starts"),
        main.node("Expand", [main.constant("no", False, bool), batch], "not_done"),
    ]
    empty: dict[tuple[int, ...], str] = {}
    for state in states:
        sizes = tuple(one.dim_value for one in state.type.tensor_type.shape.dim[1:])
        if sizes not in empty:  # the one open axis becomes 0
            number = len(empty)
            shape = [batch, main.constant(f"cache_{number}_sizes", sizes)]
            whole = main.node("Concat", shape, f"cache_{number}_shape", axis=0)
            kind = helper.tensor_dtype_to_np_dtype(state.type.tensor_type.elem_type)
            zero = numpy_helper.from_array(np.zeros(1, kind))
            empty[sizes] = main.node("ConstantOfShape", [whole], f"cache_{number}", value=zero)
        carried.append(empty[sizes])
    return carried


def _body(decoder: GraphProto, states: Sequence[Any]) -> GraphProto:
    """Make the step: the decoder, and what takes the likeliest token that is allowed."""
    body = _Graph(list(decoder.node))
    own = f"{DECODER}input_ids"
    logits = body.node("Squeeze", [f"{DECODER}logits", "one"], "step_logits")
    logits = body.node("Cast", [logits], "step_floats", to=TensorProto.FLOAT)
    body.node("Min", ["step", "last_row"], "row")
    body.node("Gather", ["masks", "row"], "mask", axis=0)
    body.node("Add", [logits, "mask"], "allowed")
    body.node("ArgMax", ["allowed"], "best", axis=1, keepdims=0)
    body.node("Where", ["done", "end", "best"], "token")
    body.node("LogSoftmax", ["allowed"], "likely", axis=1)
    body.node("ReduceMax", ["likely", "one"], "score", keepdims=0)
    body.node("Equal", ["token", "end"], "ended")
    body.node("Or", ["done", "ended"], "done_now")
    body.node("Cast", ["done_now"], "done_numbers", to=TensorProto.INT32)
    body.node("ReduceMin", ["done_numbers"], "all_done", keepdims=0)
    body.node("Cast", ["all_done"], "stop", to=TensorProto.BOOL)
    body.node("Not", ["stop"], "go_on")
    body.node("Unsqueeze", ["token", "one"], "tokens_now")
    value = helper.make_tensor_value_info
    whole, yes, real = TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT
    inputs = [
        value("step", whole, []), value("going_on", yes, []),
        value(own, whole, ["batch_size", 1]), value("done", yes, ["batch_size"]),
    ]  # fmt: skip
    outputs = [
        value("go_on", yes, []),
        value("tokens_now", whole, ["batch_size", 1]), value("done_now", yes, ["batch_size"]),
    ]  # fmt: skip
    for state in states:
        kind, shape = state.type.tensor_type.elem_type, state.type.tensor_type.shape.dim
        sizes = [one.dim_value or one.dim_param for one in shape]
        after = [one.dim_value or (one.dim_param if not axis else "read")
                 for axis, one in enumerate(shape)]  # fmt: skip
        inputs.append(value(f"{DECODER}{state.name}", kind, sizes))
        outputs.append(value(f"{DECODER}{_after(state)}", kind, after))
    outputs += [value("token", whole, ["batch_size"]), value("score", real, ["batch_size"])]
    return helper.make_graph(body.nodes, "step", inputs, outputs)


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
