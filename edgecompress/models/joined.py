"""Graphs of other programs that give an answer in several outputs: rewritten to give it in one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import NodeProto, ValueInfoProto, helper, numpy_helper

from edgecompress.models.graph import load_graph
from edgecompress.models.storage import read_model, write_model

STEM = "edgecompress_joined"
AXES_ARE_INPUT = 13
"""The operator set from which on Unsqueeze is given its axes as an input."""


def gives(model: Path, names: Sequence[str]) -> bool:
    """Whether a graph has all of these outputs; none where `names` is empty.

    Raises
    ------
    DataError
        When the file is missing or no ONNX model.
    """
    return bool(names) and set(names) <= {one.name for one in load_graph(model).output}


def join_outputs(model: Path, names: Sequence[str], joined: str, into: Path) -> None:
    """Write a graph in which outputs of one shape have become one, along a new last axis.

    Parameters
    ----------
    model : Path
    names : sequence of str
        Outputs of shape (…) each; they are none any more.
    joined : str
        The first output of the new graph, of shape (…, names). A tensor within that is called so
        gets another name.
    into : Path
        The file to write.

    Raises
    ------
    DataError
        When the file is no ONNX model.
    """
    stored = read_model(model)
    graph = stored.proto.graph
    _rename(graph.node, joined, f"{STEM}_before")
    opset = next((one.version for one in stored.proto.opset_import if not one.domain), 1)
    last = numpy_helper.from_array(np.array([-1], np.int64), f"{STEM}_last")
    parts = []
    for name in names:
        parts.append(f"{STEM}_{name}")
        if opset >= AXES_ARE_INPUT:
            made = helper.make_node("Unsqueeze", [name, last.name], [parts[-1]], parts[-1])
        else:
            rank = len(
                next(one for one in graph.output if one.name == name).type.tensor_type.shape.dim
            )
            made = helper.make_node("Unsqueeze", [name], [parts[-1]], parts[-1], axes=[rank])
        graph.node.append(made)
    if opset >= AXES_ARE_INPUT:
        graph.initializer.append(last)
    graph.node.append(helper.make_node("Concat", parts, [joined], STEM, axis=-1))
    outputs = [one for one in graph.output if one.name not in names]
    first = ValueInfoProto()
    first.CopyFrom(next(one for one in graph.output if one.name == names[0]))
    first.name = joined
    first.type.tensor_type.shape.dim.add().dim_value = len(names)
    del graph.output[:]
    graph.output.extend([first, *outputs])
    write_model(stored, into)


def _rename(nodes: Sequence[NodeProto], name: str, new: str) -> None:
    for node in nodes:
        for values in (node.input, node.output):
            for place, value in enumerate(values):
                if value == name:
                    values[place] = new
