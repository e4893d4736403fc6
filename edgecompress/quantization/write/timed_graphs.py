"""Small graphs to be timed: a block's attention or feed-forward part; a layer, whole or a product.

How long a part takes does not fall in proportion to its width: kernels work on whole blocks, and
small products wait for memory. So each width is measured, on the target and in the form (int8 or
fp32) in which the model will run there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgecompress.values import Candidate, Json, OnnxModel, SessionSettings

OPSET = 18
SLOW = ("SkipLayerNormFusion",)
"""What sessions are told to leave: on many processors it costs time (`fuse` tries it)."""
PIECES, CLASSES = 1024, 16
"""Rows of an encoder's embedding, and columns of its head: both hardly count."""
COPIES = 8
"""Layers side by side in a graph, so that what a session costs per run hardly counts."""
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
    graph, value = _Graph(heads), "x"
    for copy in range(shape.copies):
        value = graph.attention(value, shape, heads, str(copy))
    return Candidate(graph.write([value], shape, folder / f"heads-{heads}"))


def write_feed_forward(shape: PartShape, neurons: int, folder: Path) -> Candidate:
    """Write a graph of feed-forward parts with so many neurons, one after the other."""
    graph, value = _Graph(neurons), "x"
    for copy in range(shape.copies):
        value = graph.feed_forward(value, shape, neurons, str(copy))
    return Candidate(graph.write([value], shape, folder / f"neurons-{neurons}"))


def write_encoder(shape: PartShape, layers: Sequence[tuple[int, int]], folder: Path) -> Candidate:
    """Write the graph of a whole encoder: a small embedding, layers, and a narrow head.

    Parameters
    ----------
    shape : PartShape
    layers : sequence of (int, int)
        Heads and neurons of each; none is what every encoder has around its layers.
    folder : Path
        Where to write; it is made.
    """
    graph, random = _Graph(0), np.random.default_rng(0)
    pieces = graph.weight(random.standard_normal((PIECES, shape.hidden), np.float32))
    places = graph.weight(random.standard_normal((1, shape.tokens, shape.hidden), np.float32))
    value = graph.node("Add", [graph.node("Gather", [pieces, "x"]), places])
    value = graph.normalized(value, shape.hidden)
    for place, (heads, neurons) in enumerate(layers):
        seen = graph.attention(value, shape, heads, f"a{place}")
        value = graph.normalized(graph.node("Add", [seen, value]), shape.hidden)
        seen = graph.feed_forward(value, shape, neurons, f"f{place}")
        value = graph.normalized(graph.node("Add", [seen, value]), shape.hidden)
    value = graph.linear(value, shape.hidden, CLASSES, "head")
    return Candidate(graph.write([value], shape, folder, texts=True))


def write_layers(
    widths: tuple[int, ...], bias: bool, tokens: int, folder: Path, form: Form
) -> OnnxModel:
    """Write a graph of `COPIES` equal layers side by side on one input.

    Parameters
    ----------
    widths : tuple of int
        ``(in, out)`` for a whole layer, ``(in, rank, out)`` for a product.
    bias : bool
        Of the last matrix.
    tokens : int
        Length of the input, float32 (1, tokens, in).
    folder : Path
        Where to write; it is made.
    form : {"int8", "fp32"}
    """
    graph, outputs = _Graph(0), []
    for copy in range(COPIES):
        value = "x"
        for place, (inputs, width) in enumerate(pairwise(widths)):
            last = place == len(widths) - 2
            value = graph.linear(value, inputs, width, f"{copy}_{place}", bias=bias and last)
        outputs.append(value)
    shape = PartShape(widths[0], 1, gated=False, tokens=tokens, form=form)
    return graph.write(outputs, shape, folder)


class _Graph:
    """A graph that is written node by node, with random weights of its own."""

    def __init__(self, seed: int) -> None:
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
        return self.weight(np.array(values, dtype=np.int64))

    def number(self, value: float) -> str:
        """Add a constant."""
        return self.weight(np.array(value, dtype=np.float32))

    def linear(self, value: str, inputs: int, outputs: int, name: str, *, bias: bool = True) -> str:
        """Add a matrix product and a bias."""
        weight = self.random.standard_normal((inputs, outputs), np.float32) / inputs**0.5
        self.weights.append(numpy_helper.from_array(weight, f"{name}.weight"))
        product = self.node("MatMul", [value, f"{name}.weight"])
        if not bias:
            return product
        return self.node("Add", [self.weight(np.zeros(outputs, np.float32)), product])

    def attention(self, value: str, shape: PartShape, heads: int, name: str) -> str:
        """Add self-attention and the matrix behind it."""
        inner, size = heads * shape.head_size, shape.head_size
        parts = []
        for role in "qkv":
            flat = self.linear(value, shape.hidden, inner, f"{role}{name}")
            split = self.node("Reshape", [flat, self.ints([1, shape.tokens, heads, size])])
            turn = [0, 2, 3, 1] if role == "k" else [0, 2, 1, 3]
            parts.append(self.node("Transpose", [split], perm=turn))
        scores = self.node("MatMul", parts[:2])
        scores = self.node("Mul", [scores, self.number(size**-0.5)])
        seen = self.node("MatMul", [self.node("Softmax", [scores], axis=-1), parts[2]])
        seen = self.node("Transpose", [seen], perm=[0, 2, 1, 3])
        seen = self.node("Reshape", [seen, self.ints([1, shape.tokens, inner])])
        return self.linear(seen, inner, shape.hidden, f"o{name}")

    def feed_forward(self, value: str, shape: PartShape, neurons: int, name: str) -> str:
        """Add both matrices of a feed-forward part, GELU and gates between them."""
        inner = self.gelu(self.linear(value, shape.hidden, neurons, f"i{name}"))
        if shape.gated:
            gates = self.linear(value, shape.hidden, neurons, f"g{name}")
            inner = self.node("Mul", [inner, gates])
        return self.linear(inner, neurons, shape.hidden, f"p{name}")

    def normalized(self, value: str, width: int) -> str:
        """Add a layer normalization."""
        scale = self.weight(np.ones(width, np.float32))
        shift = self.weight(np.zeros(width, np.float32))
        return self.node("LayerNormalization", [value, scale, shift], axis=-1, epsilon=1e-12)

    def gelu(self, value: str) -> str:
        """Add the nodes that ONNX Runtime knows as GELU."""
        inner = self.node("Div", [value, self.number(2**0.5)])
        inner = self.node("Add", [self.node("Erf", [inner]), self.number(1.0)])
        return self.node("Mul", [self.node("Mul", [value, inner]), self.number(0.5)])

    def write(
        self, outputs: Sequence[str], shape: PartShape, folder: Path, *, texts: bool = False
    ) -> OnnxModel:
        """Write the graph in its form; what it is given are hidden states, or a text's pieces."""
        from edgecompress.models.storage import read_model, write_model
        from edgecompress.quantization.plan.scheme import Scheme
        from edgecompress.quantization.write.writer import rewrite

        axes, value = [1, shape.tokens, shape.hidden], helper.make_tensor_value_info
        given = value("x", TensorProto.FLOAT, axes)
        if texts:
            given = value("x", TensorProto.INT64, axes[:2])
        graph = helper.make_graph(
            self.nodes,
            "timed",
            [given],
            [value(name, TensorProto.FLOAT, [*axes[:2], None]) for name in outputs],
            self.weights,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "model.onnx"
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
        if shape.form == "int8":
            plain = path.rename(folder / "plain.onnx")
            write_model(rewrite(read_model(plain), Scheme())[0], path)
            plain.unlink()
        return OnnxModel(path, SessionSettings(disabled_optimizers=SLOW))

    def weight(self, value: np.ndarray) -> str:
        """Add a constant or a weight."""
        name = f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name
