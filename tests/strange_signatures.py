"""Random small ONNX files whose signatures say little of the sizes at which they run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
node, value = helper.make_node, helper.make_tensor_value_info


class Graph:
    """Collects nodes, weights, inputs and outputs of a graph with weights from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def pick(self, *choices: Any) -> Any:
        """One of several things, as the seed says."""
        return choices[int(self.random.integers(len(choices)))]

    def weight(self, name: str, *shape: int, scale: float | None = None) -> str:
        """Add an fp32 weight of about unit gain."""
        fan = max(int(np.prod(shape[1:])), 1)
        array = self.random.standard_normal(shape) * (scale or fan**-0.5)
        self.weights.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def ints(self, name: str, *values: int) -> str:
        """Add a constant of whole numbers."""
        self.weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def scalar(self, name: str, number: float) -> str:
        """Add an fp32 constant of one number."""
        self.weights.append(numpy_helper.from_array(np.float32(number), name))
        return name

    def add(self, op: str, inputs: Sequence[str], *outputs: str, **given: Any) -> str:
        """Add a node; give its first output."""
        made = outputs or (f"{op.lower()}_{len(self.nodes)}",)
        self.nodes.append(node(op, list(inputs), list(made), **given))
        return made[0]

    def input(self, name: str, kind: int, shape: Sequence[int | str | None]) -> str:
        """Add an input."""
        self.inputs.append(value(name, kind, shape))
        return name

    def output(self, name: str, shape: Sequence[int | str | None] | None = None) -> None:
        """Add an fp32 output."""
        self.outputs.append(value(name, FLOAT, shape))

    def save(self, file: Path, opset: int = 17, ir_version: int = 9, **given: Any) -> Path:
        """Write the graph."""
        graph = helper.make_graph(self.nodes, "g", self.inputs, self.outputs, self.weights)
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        opsets.append(helper.make_opsetid("ai.onnx.ml", 2))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
        onnx.save_model(model, str(file), **given)
        return file


def _minus_one(graph: Graph) -> None:
    """Open sizes written as −1."""
    width = graph.pick(4, 8)
    graph.input("image", FLOAT, [-1, 3, -1, -1])
    graph.add("Conv", ["image", graph.weight("w", width, 3, 3, 3)], "y", strides=[2, 2])
    graph.output("y", [-1, width, -1, -1])


def _question_marks(graph: Graph) -> None:
    """Every open size is called '?', though they are not equal."""
    width = graph.pick(16, 32)
    mark = graph.pick("?", "", "unk")
    graph.input("a", FLOAT, [mark, mark, width])
    graph.add("MatMul", ["a", graph.weight("w", width, 8)], "y")
    graph.output("y")


def _past_and_now(graph: Graph) -> None:
    """A cache, new tokens, and a mask over both, however its length is written."""
    width = graph.pick(16, 32)
    total = graph.pick("past + now", "total_length", "?", "past_sequence_length + now", None)
    past = "past" if total == "past + now" else "past_sequence_length"
    graph.input("ids", INT, ["batch", "now"])
    graph.input("past_key", FLOAT, ["batch", past if graph.pick(0, 1) or total else "?", width])
    graph.input("attention_mask", INT, ["batch", total])
    graph.add("Gather", [graph.weight("table", 50, width), "ids"], "e")
    graph.add("Concat", ["past_key", "e"], "k", axis=1)
    graph.add("Cast", ["attention_mask"], "m", to=FLOAT)
    graph.add("Unsqueeze", ["m", graph.ints("axis", 2)], "u")
    graph.add("Mul", ["k", "u"], "masked")
    graph.add("MatMul", ["masked", graph.weight("w", width, width)], "y")
    graph.output("y")


def _long_sound(graph: Graph) -> None:
    """Convolutions over sound, which want more than a sentence's length."""
    kernel = graph.pick(100, 400, 1000)
    name = graph.pick("samples", "T", "?")
    graph.input("audio", FLOAT, ["batch", 1, name])
    graph.add("Conv", ["audio", graph.weight("w", 16, 1, kernel)], "c", strides=[kernel // 2])
    graph.add("Conv", ["c", graph.weight("v", 16, 16, 5)], "y")
    graph.output("y")


def _flat_sound(graph: Graph) -> None:
    """Sound without a batch axis."""
    kernel = graph.pick(64, 256)
    graph.input("wave", FLOAT, [graph.pick("?", "samples")])
    graph.add("Unsqueeze", ["wave", graph.ints("axes", 0, 1)], "u")
    graph.add("Conv", ["u", graph.weight("w", 4, 1, kernel)], "y")
    graph.output("y")


def _halved_image(graph: Graph) -> None:
    """A U of images, whose size must divide by a power of two."""
    graph.input("image", FLOAT, [1, 3, graph.pick("H", "?"), graph.pick("W", "?")])
    graph.add("Conv", ["image", graph.weight("w", 4, 3, 3, 3)], "a", pads=[1, 1, 1, 1])
    graph.add("MaxPool", ["a"], "b", kernel_shape=[32, 32], strides=[32, 32])
    graph.weights.append(numpy_helper.from_array(np.float32([1, 1, 32, 32]), "scales"))
    graph.add("Resize", ["b", "", "scales"], "c")
    graph.add("Add", ["a", "c"], "y")
    graph.output("y")


def _fixed_inside(graph: Graph) -> None:
    """Open in the signature, fixed by a Reshape inside."""
    side = graph.pick(32, 64)
    graph.input("image", FLOAT, ["n", 3, "h", "w"])
    graph.add("Reshape", ["image", graph.ints("shape", 1, 3 * side * side)], "flat")
    graph.add("MatMul", ["flat", graph.weight("w", 3 * side * side, 8, scale=0.01)], "y")
    graph.output("y")


def _worked_out(graph: Graph) -> None:
    """A size that is named as a formula of another."""
    graph.input("x", FLOAT, ["n", "time", 8])
    graph.input("half", FLOAT, ["n", "floor(time/2)", 8])
    graph.add("AveragePool", ["t"], "p", kernel_shape=[2], strides=[2])
    graph.nodes.insert(0, node("Transpose", ["x"], ["t"], perm=[0, 2, 1]))
    graph.add("Transpose", ["p"], "q", perm=[0, 2, 1])
    graph.add("Add", ["q", "half"], "s")
    graph.add("MatMul", ["s", graph.weight("w", 8, 8)], "y")
    graph.output("y")


def _lengths(graph: Graph) -> None:
    """An input that says how long another one is, and a sampling rate."""
    graph.input("tokens", INT, ["batch", "T"])
    graph.input("x_lengths", INT, ["batch"])
    graph.input("sr", INT, [])
    graph.add("Gather", [graph.weight("table", 40, 16), "tokens"], "e")
    graph.add("ReduceMax", ["x_lengths"], "longest", keepdims=1)
    graph.add("Slice", ["e", graph.ints("zero", 0), "longest", graph.ints("one", 1)], "s")
    graph.add("Cast", ["sr"], "rate", to=FLOAT)
    graph.weights.append(numpy_helper.from_array(np.float32(16000), "usual"))
    graph.add("Div", ["rate", "usual"], "gain")
    graph.add("Mul", ["s", "gain"], "g")
    graph.add("MatMul", ["g", graph.weight("w", 16, 8)], "y")
    graph.output("y")


def _nameless_state(graph: Graph) -> None:
    """A recurrent state of which no axis has a name."""
    width = graph.pick(8, 16)
    graph.input("input", FLOAT, [None, None])
    graph.input(graph.pick("state", "h0", "hidden"), FLOAT, [2, None, width])
    name = graph.inputs[-1].name
    graph.add("ReduceMean", ["input"], "m", axes=[1], keepdims=1)
    graph.add("MatMul", ["m", graph.weight("w", 1, width)], "a")
    graph.add("Add", ["a", name], "y")
    graph.add("Reshape", ["y", graph.ints("same", 2, -1, width)], "z")
    graph.add("Expand", ["input", graph.ints("wide", 1, 64)], "e")
    graph.add("MatMul", ["z", graph.weight("v", width, 16)], "out")
    graph.output("out")
    graph.output("e")


def _every_type(graph: Graph) -> None:
    """An input of a type that few graphs have."""
    kind = graph.pick(
        TensorProto.UINT8, TensorProto.INT8, TensorProto.DOUBLE, TensorProto.FLOAT16,
        TensorProto.INT32, TensorProto.BOOL, TensorProto.INT16, TensorProto.UINT16,
    )  # fmt: skip
    graph.input("x", kind, ["n", 16])
    graph.add("Cast", ["x"], "f", to=FLOAT)
    graph.add("MatMul", ["f", graph.weight("w", 16, 8)], "y")
    graph.output("y")


SIGNATURES = {
    "minus one": _minus_one,
    "question marks": _question_marks,
    "past and now": _past_and_now,
    "long sound": _long_sound,
    "flat sound": _flat_sound,
    "halved image": _halved_image,
    "fixed inside": _fixed_inside,
    "worked out": _worked_out,
    "lengths": _lengths,
    "nameless state": _nameless_state,
    "every type": _every_type,
}
"""Signatures that say little of the sizes at which a graph runs."""


def signature_graph(kind: str, file: Path, seed: int) -> Path:
    """Write a graph of a kind of `SIGNATURES`."""
    graph = Graph(seed)
    SIGNATURES[kind](graph)
    return graph.save(file)
