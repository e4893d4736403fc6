"""Weights of 16 bits: stored in half and cast where they are used, or computed in half.

Stored: each fp32 initializer becomes fp16 or bf16 and a ``Cast`` to fp32, which ONNX Runtime folds
when it loads the model; rows of a table are looked up in half and only then cast. Computed: ONNX
Runtime's `onnxruntime.transformers.float16.convert_float_to_float16`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from edgecompress.errors import StageError
from edgecompress.models.storage import StoredModel
from edgecompress.quantization.graphs.constants import lift_large
from edgecompress.quantization.graphs.fusion import FAILURES
from edgecompress.quantization.graphs.layers import (
    INSIDE,
    attributes,
    name_nodes,
    names_read,
    names_read_inside,
    readers_of,
    values_inside,
)
from edgecompress.quantization.graphs.opset import opset_of
from edgecompress.quantization.plan.fitness import read_exactly

Form = Literal["fp16", "bf16"]
TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
LEAST_OPSET = 13  # the first whose Cast knows bf16
MOST_FP16 = float(np.finfo(np.float16).max)
# Of the root mean square. Rounding loses 0.2 % in bf16; more is lost below the smallest number.
LOST = 0.01
# A smaller tensor saves less than its Cast costs in the file.
LEAST_VALUES = 128
NOTHING = "the model has no fp32 weights of more than a few values: nothing to do"


@dataclass(frozen=True, slots=True)
class Halved:
    """A graph with its weights in half, and which weights were left in fp32, with the reason."""

    model: StoredModel
    weights: tuple[str, ...]
    left: dict[str, str]


def in_half(array: np.ndarray[Any, Any], form: Form) -> np.ndarray[Any, Any]:
    """Round fp32 to the nearest number of 16 bits, ties to even."""
    return array.astype(helper.tensor_dtype_to_np_dtype(TYPES[form]))


def halved_weights(model: StoredModel) -> list[str]:
    """Names of the weights that are large enough to be stored in half."""
    return [
        tensor.name
        for tensor in model.proto.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and int(np.prod(tensor.dims)) >= LEAST_VALUES
    ]


def check_halvable(model: StoredModel) -> None:
    """Refuse a graph without a weight that could be stored in half, whatever its opset.

    Raises
    ------
    StageError
    """
    name_nodes(model)
    lift_large(model, LEAST_VALUES)
    if not halved_weights(model):
        inner = values_inside(model.proto.graph.node)
        raise StageError(f"{NOTHING}{INSIDE.format(inner) if inner else ''}")


def store_in_half(model: StoredModel, form: Form, held: Mapping[str, str] | None = None) -> Halved:
    """Store the fp32 weights of `model` in `form`; the graph is changed in place.

    A weight beyond fp16's range (65504) stays in fp32, and so does one of a subgraph, one that
    holds numbers that are not finite, and one whose values are too small. So do those that `held`
    names, for the reasons given there.

    Raises
    ------
    StageError
        When the opset is too old, or nothing is left to halve.
    """
    proto = model.proto
    graph = proto.graph
    opset = opset_of(model)
    if opset < LEAST_OPSET:
        raise StageError(
            f"weights of 16 bits need opset {LEAST_OPSET} or newer, and this model has {opset}: "
            "export it again with a newer opset"
        )
    name_nodes(model)
    lift_large(model, LEAST_VALUES)
    inner = names_read_inside(graph.node)
    outputs = {value.name for value in graph.output}
    consumers = readers_of(graph.node)
    constants = {t.name for t in graph.initializer}
    casts: list[NodeProto] = []
    done: list[str] = []
    left: dict[str, str] = {}
    places = dict(model.places)
    wanted = set(halved_weights(model))
    for tensor in list(graph.initializer):
        if tensor.name not in wanted:
            continue
        name = tensor.name
        if held and name in held:
            left[name] = held[name]
            continue
        if name in inner or name in outputs:
            left[name] = "an inner graph or the caller reads it"
            continue
        rows = [n for n in consumers.get(name, ()) if n.op_type == "Gather" and n.input[0] == name]
        readers = (read_exactly(n.output[0], consumers, constants) for n in rows)
        if reader := next(filter(None, readers), ""):
            left[name] = f"{reader} reads its values"
            continue
        array = model.array(tensor)
        largest = float(np.abs(array).max())
        if form == "fp16" and np.isfinite(largest) and largest > MOST_FP16:
            left[name] = f"its largest value, {largest:g}, is beyond fp16"
            continue
        half = in_half(array, form)
        reason = _lost(array, half, form)
        if reason:
            left[name] = reason
            continue
        tensor.ClearField("float_data")
        tensor.raw_data = half.tobytes()
        tensor.data_type = TYPES[form]
        tensor.name = f"{name}_{form}"
        places.pop(name, None)
        casts += _cast(graph, name, tensor.name)
        done.append(name)
    if not done:
        told = next((f" ({name}: {reason})" for name, reason in left.items()), "")
        raise StageError(f"{NOTHING}{told}")
    nodes = [*casts, *graph.node]
    graph.ClearField("node")
    graph.node.extend(_ordered(nodes, graph))
    # Initializers of old files are inputs, too; their types would contradict.
    kept = [value for value in graph.input if value.name not in set(done)]
    graph.ClearField("input")
    graph.input.extend(kept)
    return Halved(StoredModel(proto, places), tuple(done), left)


def _lost(array: np.ndarray[Any, Any], half: np.ndarray[Any, Any], form: Form) -> str:
    """Say what 16 bits lose of a weight beyond their rounding; empty: nothing."""
    if not np.isfinite(array).all():
        return "it holds numbers that are not finite"
    back = half.astype(np.float32)
    if not np.isfinite(back).all():
        return f"its largest value is beyond {form}"
    size = np.square(array, dtype=np.float64).sum()
    gap = np.square(back - array, dtype=np.float64).sum()
    return f"its values are too small for {form}" if gap > LOST**2 * size else ""


def _cast(graph: Any, name: str, half: str) -> list[NodeProto]:
    """Cast `half` to fp32 where `name` was read: the rows of a look-up, otherwise the whole."""
    made: list[NodeProto] = []
    whole = False
    for node in graph.node:
        if name not in node.input:
            continue
        rows = (
            node.op_type == "Gather"
            and node.input[0] == name
            and attributes(node).get("axis", 0) == 0
        )
        if not rows:
            whole = True
            continue
        node.input[0] = half
        out = node.output[0]
        node.output[0] = f"{out}_half"
        made.append(helper.make_node("Cast", [f"{out}_half"], [out], f"{out}_Cast", to=1))
    if whole:
        made.append(helper.make_node("Cast", [half], [name], f"{name}_Cast", to=TensorProto.FLOAT))
    return made


def _ordered(nodes: Sequence[NodeProto], graph: Any) -> list[NodeProto]:
    """Sort `nodes` so that each stands behind what it reads, otherwise in their order."""
    made = {name for node in nodes for name in node.output if name}
    known = {t.name for t in graph.initializer} | {v.name for v in graph.input}
    waiting: dict[str, list[int]] = {}
    missing: list[int] = []
    for index, node in enumerate(nodes):
        needs = {n for n in names_read([node]) if n in made and n not in known}
        missing.append(len(needs))
        for name in needs:
            waiting.setdefault(name, []).append(index)
    ready = [index for index in reversed(range(len(nodes))) if missing[index] == 0]
    ordered: list[NodeProto] = []
    while ready:
        node = nodes[ready.pop()]
        ordered.append(node)
        for name in node.output:
            for index in waiting.get(name, ()):
                missing[index] -= 1
                if missing[index] == 0:
                    ready.append(index)
    return ordered


def compute_in_half(source: Path, target: Path) -> None:
    """Write `source` with fp16 weights and fp16 arithmetic; inputs and outputs stay fp32.

    Raises
    ------
    StageError
        When the converter fails on this graph.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    try:
        made = convert_float_to_float16(onnx.load(source), keep_io_types=True)
    except FAILURES as error:
        raise StageError(f"ONNX Runtime's fp16 converter failed ({error!r})") from error
    # The converter puts the casts of inputs behind all that reads them.
    nodes = _ordered(list(made.graph.node), made.graph)
    made.graph.ClearField("node")
    made.graph.node.extend(nodes)
    onnx.save(made, target)
