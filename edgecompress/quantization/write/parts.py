"""Small graphs of a block's attention and feed-forward part, to be timed alone.

How long a part takes does not fall in proportion to its width: kernels work on whole blocks, and
small products wait for memory. So each width is measured, on the target and in the form (int8 or
fp32) in which the model will run there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgecompress.values import Candidate, Json, OnnxModel

OPSET = 18
Form = Literal["int8", "fp32"]


@dataclass(frozen=True, slots=True)
class PartShape:
    """What parts of all widths have in common.

    Attributes
    ----------
    hidden : int
        Width of the hidden states.
    head_size : int
    gated : bool
        The feed-forward part multiplies its neurons with gates.
    tokens : int
        Length of the text.
    form : {"int8", "fp32"}
        Dynamic int8, as `quantize.dynamic` makes it, or fp32.
    """

    hidden: int
    head_size: int
    gated: bool
    tokens: int
    form: Form

    @property
    def copies(self) -> int:
        """How often a graph repeats its part, so that it outweighs the cost of a call."""
        return 4 if self.hidden < 512 else 2

    def as_json(self) -> Json:
        """Give it as part of a key."""
        return asdict(self)


def write_attention(shape: PartShape, heads: int, folder: Path) -> Candidate:
    """Write a graph of attentions with so many heads, one after the other."""
    graph = _Graph(shape, heads)
    inner, size = heads * shape.head_size, shape.head_size
    value = "x"
    for copy in range(shape.copies):
        parts = []
        for role in "qkv":
            flat = graph.linear(value, shape.hidden, inner, f"{role}{copy}")
            split = graph.node("Reshape", [flat, graph.ints([1, shape.tokens, heads, size])])
            turn = [0, 2, 3, 1] if role == "k" else [0, 2, 1, 3]
            parts.append(graph.node("Transpose", [split], perm=turn))
        scores = graph.node("MatMul", parts[:2])
        scores = graph.node("Mul", [scores, graph.number(size**-0.5)])
        seen = graph.node("MatMul", [graph.node("Softmax", [scores], axis=-1), parts[2]])
        seen = graph.node("Transpose", [seen], perm=[0, 2, 1, 3])
        seen = graph.node("Reshape", [seen, graph.ints([1, shape.tokens, inner])])
        value = graph.linear(seen, inner, shape.hidden, f"o{copy}")
    return graph.write(value, folder / f"heads-{heads}")


def write_feed_forward(shape: PartShape, neurons: int, folder: Path) -> Candidate:
    """Write a graph of feed-forward parts with so many neurons, one after the other."""
    graph = _Graph(shape, neurons)
    value = "x"
    for copy in range(shape.copies):
        inner = graph.gelu(graph.linear(value, shape.hidden, neurons, f"i{copy}"))
        if shape.gated:
            gates = graph.linear(value, shape.hidden, neurons, f"g{copy}")
            inner = graph.node("Mul", [inner, gates])
        value = graph.linear(inner, neurons, shape.hidden, f"o{copy}")
    return graph.write(value, folder / f"neurons-{neurons}")


class _Graph:
    """A graph that is written node by node, with random weights of its own."""

    def __init__(self, shape: PartShape, seed: int) -> None:
        self.shape = shape
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def node(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node; give the name of its output."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def ints(self, values: Sequence[int]) -> str:
        """Add a constant of whole numbers."""
        return self._constant(np.array(values, dtype=np.int64))

    def number(self, value: float) -> str:
        """Add a constant."""
        return self._constant(np.array(value, dtype=np.float32))

    def linear(self, value: str, inputs: int, outputs: int, name: str) -> str:
        """Add a matrix product and a bias."""
        weight = self.random.standard_normal((inputs, outputs), np.float32) / inputs**0.5
        self.weights.append(numpy_helper.from_array(weight, f"{name}.weight"))
        bias = self._constant(np.zeros(outputs, np.float32))
        return self.node("Add", [bias, self.node("MatMul", [value, f"{name}.weight"])])

    def gelu(self, value: str) -> str:
        """Add the nodes that ONNX Runtime knows as GELU."""
        inner = self.node("Div", [value, self.number(2**0.5)])
        inner = self.node("Add", [self.node("Erf", [inner]), self.number(1.0)])
        return self.node("Mul", [self.node("Mul", [value, inner]), self.number(0.5)])

    def write(self, value: str, folder: Path) -> Candidate:
        """Write the graph in its form."""
        from edgecompress.models.storage import read_model, write_model
        from edgecompress.quantization.plan.scheme import Scheme
        from edgecompress.quantization.write.writer import rewrite

        axes = [1, self.shape.tokens, self.shape.hidden]
        self.nodes.append(helper.make_node("Identity", [value], ["y"], name="y"))
        graph = helper.make_graph(
            self.nodes,
            "part",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, axes)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, axes)],
            self.weights,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        folder.mkdir(parents=True)
        path = folder / "model.onnx"
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
        if self.shape.form == "int8":
            quantized = folder / "int8.onnx"
            write_model(rewrite(read_model(path), Scheme())[0], quantized)
            path = quantized
        return Candidate(OnnxModel(path))

    def _constant(self, value: np.ndarray) -> str:
        name = f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name
