"""Find out what a small part of a graph computes by running it on made-up inputs.

Exporters write the same mask or the same positions in a dozen ways, and every release adds one.
What such a part computes from the model's inputs is soon tried, whatever operators it is made of.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgecompress.models.session import ORT_ERRORS, session_options
from edgecompress.models.storage import StoredModel
from edgecompress.values import SessionSettings

Array = np.ndarray[Any, Any]
SIZES = ((2, 5), (3, 4), (1, 3), (4, 9))
"""Batch and length of each trial; no two are alike, so that no size stands for another."""
MOST_NODES = 200
MOST_VALUES = 1 << 20
# What reads hidden states is no mask and no position.
LAYERS = frozenset(
    {"MatMul", "Gemm", "Conv", "Softmax", "LayerNormalization", "If", "Loop", "Scan"}
)
# Constants that tell the width of what a layer makes: their place and rank.
WIDTHS = {"LayerNormalization": (1, 1), "MatMul": (1, 2), "Gather": (0, 2)}
ELEMENTS = {
    TensorProto.INT64: np.int64,
    TensorProto.INT32: np.int32,
    TensorProto.BOOL: np.bool_,
    TensorProto.FLOAT: np.float32,
}


class Trials:
    """Runs parts of one graph, as it was when this was made."""

    def __init__(self, model: StoredModel) -> None:
        self.model = model
        graph = model.proto.graph
        self.makers: dict[str, NodeProto] = {n: node for node in graph.node for n in node.output}
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = {value.name: value for value in graph.input}
        self.found: dict[str, tuple[tuple[dict[str, Array], Array], ...] | None] = {}

    def results(
        self, name: str, hidden: Mapping[str, int] | None = None
    ) -> tuple[tuple[dict[str, Array], Array], ...] | None:
        """Run what makes a tensor, once for each of `SIZES`.

        Every input is ones and zeros, (batch, length); each row has a one, and every batch a zero.

        Parameters
        ----------
        name : str
        hidden : mapping of str to int, optional
            Tensors of hidden states where the part begins, and their width: they are given random
            numbers, (batch, length, width).

        Returns
        -------
        tuple of (feed, array), or None
            None where it depends on other hidden states, on no input or on one of another shape,
            or does not run.
        """
        if hidden:
            return self._results(name, hidden)
        if name not in self.found:
            self.found[name] = self._results(name, {})
        return self.found[name]

    def _results(
        self, name: str, hidden: Mapping[str, int]
    ) -> tuple[tuple[dict[str, Array], Array], ...] | None:
        hidden = dict(hidden)
        part = self._part(name, hidden)
        return _run(part, hidden) if part is not None else None

    def _part(self, name: str, hidden: dict[str, int]) -> ModelProto | None:
        """Cut out the nodes that a tensor depends on; None where they are too many.

        Hidden states of which only the shape is read are added to `hidden`.
        """
        nodes: dict[str, NodeProto] = {}
        tensors: dict[str, TensorProto] = {}
        inputs: set[str] = set()
        pending = [name]
        while pending:
            wanted = pending.pop()
            if wanted in hidden:
                continue
            if wanted in self.tensors:
                tensors[wanted] = self.tensors[wanted]
            elif wanted in self.inputs:
                inputs.add(wanted)
            elif wanted in self.makers:
                node = self.makers[wanted]
                if self._is_layer(node) or len(nodes) > MOST_NODES:
                    return None
                if node.output[0] not in nodes:
                    nodes[node.output[0]] = node
                    if node.op_type == "Shape" and (width := self._width(node.input[0])):
                        hidden[node.input[0]] = width
                    pending += [each for each in node.input if each]
            elif wanted:
                return None
        values = sum(math.prod(tensor.dims) for tensor in tensors.values())
        if not (inputs or hidden) or values > MOST_VALUES:
            return None
        held = [
            numpy_helper.from_array(self.model.array(each), each.name)
            if each.name in self.model.places
            else each
            for each in tensors.values()
        ]
        graph = GraphProto(name="part")
        graph.node.extend(
            node for node in self.model.proto.graph.node if node.output and node.output[0] in nodes
        )
        graph.initializer.extend(held)
        graph.input.extend(self.inputs[each] for each in sorted(inputs))
        graph.input.extend(
            helper.make_tensor_value_info(each, TensorProto.FLOAT, [None, None, width])
            for each, width in hidden.items()
        )
        graph.output.append(helper.make_empty_tensor_value_info(name))
        return helper.make_model(
            graph,
            opset_imports=self.model.proto.opset_import,
            ir_version=self.model.proto.ir_version,
        )

    def _width(self, name: str) -> int | None:
        """Give the width of hidden states by the constant of the layer that makes them."""
        node = self.makers.get(name)
        place, rank = WIDTHS.get(node.op_type if node else "", (0, 0))
        name = node.input[place] if node and rank else ""
        while (same := self.makers.get(name)) is not None and same.op_type == "Identity":
            name = same.input[0]  # exporters write equal constants once
        table = self.tensors.get(name)
        return int(table.dims[-1]) if table is not None and len(table.dims) == rank else None

    def _is_layer(self, node: NodeProto) -> bool:
        """Whether a node makes hidden states; a product without a weight may rotate positions."""
        if node.op_type == "MatMul":
            return node.input[1] in self.tensors
        return node.op_type in LAYERS


def _run(
    part: ModelProto, hidden: Mapping[str, int]
) -> tuple[tuple[dict[str, Array], Array], ...] | None:
    found = []
    try:
        session = ort.InferenceSession(
            part.SerializeToString(),
            session_options(SessionSettings()),
            providers=["CPUExecutionProvider"],
        )
        for batch, length in SIZES:
            feed: dict[str, Array] = {}
            for number, value in enumerate(part.graph.input):
                if value.name in hidden:
                    drawn = np.random.default_rng((batch, length))
                    states = drawn.standard_normal((batch, length, hidden[value.name]))
                    feed[value.name] = states.astype(np.float32)
                    continue
                kind = value.type.tensor_type
                if len(kind.shape.dim) != 2 or kind.elem_type not in ELEMENTS:
                    return None
                ones = _ones_and_zeros(batch, length, number)
                feed[value.name] = ones.astype(ELEMENTS[kind.elem_type])
            found.append((feed, session.run(None, feed)[0]))
    except ORT_ERRORS:
        return None
    return tuple(found)


@functools.cache
def _ones_and_zeros(batch: int, length: int, seed: int) -> Array:
    """Give ones and zeros at random places, (batch, length); each row has one of either."""
    drawn = np.random.default_rng((batch, length, seed))
    values = drawn.integers(0, 2, (batch, length))
    for row, place in enumerate(drawn.integers(0, length, batch)):
        values[row, place], values[row, place - 1] = 1, 0
    return values
