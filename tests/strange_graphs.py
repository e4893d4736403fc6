"""Random small ONNX files of the kinds that other people's exporters write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from strange_signatures import BOOL, FLOAT, INT, SIGNATURES, Graph, node, value


def _constants(graph: Graph) -> None:
    """Weights and biases in Constant nodes, however they are spelled, or behind an Identity."""

    def constant(name: str, *shape: int) -> str:
        array = (graph.random.standard_normal(shape) * 0.2).astype(np.float32)
        spelled = graph.pick("value", "floats", "identity", "initializer")
        if spelled == "floats" and len(shape) == 1:
            return graph.add("Constant", [], name, value_floats=array.tolist())
        if spelled == "identity":
            graph.weights.append(numpy_helper.from_array(array, f"{name}_of"))
            return graph.add("Identity", [f"{name}_of"], name)
        if spelled == "initializer":
            graph.weights.append(numpy_helper.from_array(array, name))
            return name
        return graph.add("Constant", [], name, value=numpy_helper.from_array(array, name))

    width = graph.pick(16, 32)
    graph.input("x", FLOAT, ["n", 3, 12, 12])
    parts = [constant("w", width, 3, 3, 3), constant("b", width)]
    graph.add("Conv", ["x", *parts], "c", pads=[1, 1, 1, 1])
    graph.add("Relu", ["c"], "r")
    graph.add("GlobalAveragePool", ["r"], "p")
    graph.add("Flatten", ["p"], "f")
    graph.add("Gemm", ["f", constant("v", 16, width), constant("d", 16)], "g", transB=1)
    graph.add("MatMul", ["g", constant("u", 16, 16)], "y")
    graph.output("y", ["n", 16])


def _outer_weights(graph: Graph) -> None:
    """Subgraphs that read weights of the graph around them, alone or beside it."""
    graph.input("x", FLOAT, ["n", 32])
    shared = graph.weight("w2", 32, 32)
    graph.add("MatMul", ["x", graph.weight("w1", 32, 32)], "a")
    if graph.pick(0, 1):
        graph.add("MatMul", ["a", shared], "b")
    else:
        graph.add("Relu", ["a"], "b")

    def branch(name: str, op: str) -> Any:
        inner = [node("MatMul", ["b", shared], [f"{name}m"]), node(op, [f"{name}m"], [f"{name}o"])]
        return helper.make_graph(inner, name, [], [value(f"{name}o", FLOAT, ["n", 32])])

    if graph.pick(0, 1):
        graph.add("ReduceSum", ["b"], "s", keepdims=0)
        graph.add("Cast", ["s"], "c", to=BOOL)
        graph.add(
            "If", ["c"], "y", then_branch=branch("t", "Relu"), else_branch=branch("e", "Tanh")
        )
    else:
        body = helper.make_graph(
            [
                node("MatMul", ["carried", shared], ["m"]),
                node("Tanh", ["m"], ["next"]),
                node("Identity", ["on"], ["still"]),
            ],
            "body",
            [value("turn", INT, []), value("on", BOOL, []), value("carried", FLOAT, ["n", 32])],
            [value("still", BOOL, []), value("next", FLOAT, ["n", 32])],
        )
        graph.weights.append(numpy_helper.from_array(np.int64(3), "turns"))
        graph.weights.append(numpy_helper.from_array(np.bool_(True), "forever"))
        graph.add("Loop", ["turns", "forever", "b"], "y", body=body)
    graph.output("y", ["n", 32])


def _states(graph: Graph) -> None:
    """A streaming model: frames, a state whose first axis counts layers, and a number."""
    batch = graph.pick("batch", 1)
    hidden = graph.pick(8, 16)
    graph.input("x", FLOAT, [batch, 5, 8])
    graph.input("h0", FLOAT, [2, batch, hidden])
    graph.input("gain", FLOAT, [])
    graph.add("Mul", ["x", "gain"], "g")
    graph.add("MatMul", ["g", graph.weight("w1", 8, hidden)], "a")
    graph.add("Transpose", ["a"], "t", perm=[1, 0, 2])
    graph.weights.append(numpy_helper.from_array(np.int64([1, 1]), "split"))
    graph.add("Split", ["h0", "split"], "ha", "hb", axis=0)
    parts = [graph.weight("w", 1, 3 * hidden, hidden), graph.weight("r", 1, 3 * hidden, hidden)]
    graph.add("GRU", ["t", *parts, "", "", "ha"], "o", "hn", hidden_size=hidden)
    graph.add("Squeeze", ["o", graph.ints("one", 1)], "s")
    graph.add("MatMul", ["s", graph.weight("wf", hidden, 4)], "y")
    graph.output("y")
    graph.output("hn")


def _no_shapes(graph: Graph) -> None:
    """Outputs of which neither number nor size of axes is written."""
    graph.input("x", FLOAT, ["n", 32])
    graph.add("MatMul", ["x", graph.weight("w", 32, 64)], "h")
    graph.add("Relu", ["h"], "r")
    graph.add("MatMul", ["r", graph.weight("v", 64, 8)], "y")
    graph.output("y")
    graph.output("h")


def _old(graph: Graph) -> None:
    """Operator sets from before quantization; `strange_graph` picks the number."""
    graph.input("x", FLOAT, ["n", 64])
    graph.add("Gemm", ["x", graph.weight("w", 32, 64), graph.weight("b", 32)], "h", transB=1)
    graph.add("Relu", ["h"], "r")
    graph.add("Dropout", ["r"], "d")
    graph.add("Unsqueeze", ["d"], "u", axes=[1])
    graph.add("Squeeze", ["u"], "q", axes=[1])
    graph.add("MatMul", ["q", graph.weight("v", 32, 16)], "m")
    graph.add("Softmax", ["m"], "y", axis=1)
    graph.output("y", ["n", 16])


def _half_weights(graph: Graph) -> None:
    """A model in fp16."""
    array = graph.random.standard_normal((64, 64)).astype(np.float16) / 8
    graph.weights.append(numpy_helper.from_array(array, "w"))
    graph.input("x", TensorProto.FLOAT16, ["n", 64])
    graph.add("MatMul", ["x", "w"], "y")
    graph.outputs.append(value("y", TensorProto.FLOAT16, ["n", 64]))


def _double_weights(graph: Graph) -> None:
    """A model in fp64, as scientific Python exports it."""
    array = graph.random.standard_normal((64, 64)) / 8
    graph.weights.append(numpy_helper.from_array(array, "w"))
    graph.input("x", TensorProto.DOUBLE, ["n", 64])
    graph.add("MatMul", ["x", "w"], "y")
    graph.outputs.append(value("y", TensorProto.DOUBLE, ["n", 64]))


def _labels(graph: Graph) -> None:
    """A network of scikit-learn: its outputs are words, and a list of maps or numbers."""
    graph.input("x", FLOAT, ["n", 32])
    graph.add("MatMul", ["x", graph.weight("w", 32, 64)], "h")
    graph.add("Relu", ["h"], "r")
    graph.add("MatMul", ["r", graph.weight("v", 64, 3)], "scores")
    graph.add("ArgMax", ["scores"], "best", axis=1, keepdims=0)
    graph.weights.append(helper.make_tensor("names", TensorProto.STRING, [3], [b"a", b"b", b"c"]))
    graph.add("ArrayFeatureExtractor", ["names", "best"], "label", domain="ai.onnx.ml")
    graph.outputs.append(value("label", TensorProto.STRING, None))
    if graph.pick(0, 1):
        words = {"classlabels_strings": ["a", "b", "c"]}
        graph.add("ZipMap", ["scores"], "probabilities", domain="ai.onnx.ml", **words)
        kind = helper.make_map_type_proto(
            TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, [])
        )
        sequence = helper.make_sequence_type_proto(kind)
        graph.outputs.append(helper.make_value_info("probabilities", sequence))
    else:
        graph.output("scores", ["n", 3])


def _trees(graph: Graph) -> None:
    """Gradient boosting: no weight that a layer could have."""
    graph.input("x", FLOAT, ["n", 4])
    graph.add(
        "TreeEnsembleRegressor", ["x"], "y", domain="ai.onnx.ml", n_targets=1,
        nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2], nodes_featureids=[0, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_values=[0.5, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0],
        target_treeids=[0, 0], target_nodeids=[1, 2], target_ids=[0, 0], target_weights=[1.0, 2.0],
    )  # fmt: skip
    graph.output("y")


def _words(graph: Graph) -> None:
    """An input of words, which only a graph can turn into numbers."""
    graph.input("x", TensorProto.STRING, ["n", 2])
    graph.add(
        "LabelEncoder", ["x"], "ids", domain="ai.onnx.ml",
        keys_strings=["a", "b"], values_floats=[0.5, 1.0],
    )  # fmt: skip
    graph.add("MatMul", ["ids", graph.weight("w", 2, 64)], "y")
    graph.output("y")


def _only_convolutions(graph: Graph) -> None:
    """Nothing but convolutions."""
    graph.input("x", FLOAT, [1, 3, 16, 16])
    graph.add("Conv", ["x", graph.weight("w", 16, 3, 3, 3)], "a", pads=[1, 1, 1, 1])
    graph.add("Relu", ["a"], "r")
    graph.add("Conv", ["r", graph.weight("v", 16, 16, 3, 3)], "y", pads=[1, 1, 1, 1])
    graph.output("y")


def _read_twice(graph: Graph) -> None:
    """Weights that several nodes read: looked up and multiplied, turned, added."""
    graph.input("ids", INT, ["n", "length"])
    table = graph.weight("table", 64, 32)
    graph.add("Gather", [table, "ids"], "e")
    graph.add("Transpose", [table], "turned", perm=[1, 0])
    graph.add("MatMul", ["e", graph.weight("w", 32, 32)], "h")
    if graph.pick(0, 1):
        graph.add("MatMul", ["h", "w"], "again")
    else:
        graph.add("Relu", ["h"], "again")
    graph.add("MatMul", ["again", "turned"], "y")
    graph.output("y")


def _inner_weights(graph: Graph) -> None:
    """All weights inside the branches of an If, in initializers or Constant nodes."""
    graph.input("x", FLOAT, ["n", 32])
    graph.add("ReduceSum", ["x"], "s", keepdims=0)
    graph.add("Cast", ["s"], "c", to=BOOL)
    spelled = graph.pick(0, 1)

    def branch(name: str) -> Any:
        array = (graph.random.standard_normal((32, 64)) * 0.2).astype(np.float32)
        weight = numpy_helper.from_array(array, f"{name}w")
        made = [node("Constant", [], [f"{name}w"], value=weight)] if spelled else []
        made.append(node("MatMul", ["x", f"{name}w"], [f"{name}o"]))
        shape = [value(f"{name}o", FLOAT, ["n", 64])]
        return helper.make_graph(made, name, [], shape, [] if spelled else [weight])

    graph.add("If", ["c"], "y", then_branch=branch("t"), else_branch=branch("e"))
    graph.output("y", ["n", 64])


def _recurrent(graph: Graph) -> None:
    """An LSTM of any direction, with or without what it may be given, before a linear layer."""
    direction = graph.pick("forward", "reverse", "bidirectional")
    ways, hidden = 2 if direction == "bidirectional" else 1, graph.pick(16, 32)
    graph.input("x", FLOAT, ["frames", "n", 32])
    graph.add("Tanh", ["x"], "t")
    parts = [graph.weight("w", ways, 4 * hidden, 32, scale=0.2)]
    parts.append(graph.weight("r", ways, 4 * hidden, hidden, scale=0.2))
    given = graph.pick(0, 1, 2)
    if given:
        parts.append(graph.weight("b", ways, 8 * hidden, scale=0.2))
    if given == 2:
        parts += ["", "", "", graph.weight("p", ways, 3 * hidden, scale=0.2)]
    graph.add("LSTM", ["t", *parts], "o", "h", hidden_size=hidden, direction=direction)
    graph.add("ReduceMean", ["h"], "s", axes=[0], keepdims=0)
    graph.add("MatMul", ["s", graph.weight("v", hidden, 16)], "y")
    graph.output("y")
    graph.output("o")


def _unfolded(graph: Graph) -> None:
    """Convolutions with their normalizations behind them, as exports of other tools leave them."""
    graph.input("x", FLOAT, ["n", 3, 16, 16])
    last, channels, shared = "x", 3, graph.pick(0, 1)
    for number in range(4):
        weight = "w2" if shared and number == 3 else graph.weight(f"w{number}", 8, channels, 3, 3)
        parts = [weight] + ([graph.weight(f"b{number}", 8)] if graph.pick(0, 1) else [])
        graph.add("Conv", [last, *parts], f"c{number}", pads=[1, 1, 1, 1])
        moments = [graph.weight(f"{part}{number}", 8) for part in ("gamma", "beta", "mean")]
        spread = (graph.random.random(8) + 0.2).astype(np.float32)
        graph.weights.append(numpy_helper.from_array(spread, f"var{number}"))
        if number % 2:  # in Constant nodes
            for tensor in graph.weights[-4:]:
                graph.add("Constant", [], tensor.name, value=tensor)
            del graph.weights[-4:]
        epsilon = graph.pick({}, {"epsilon": 1e-3})
        graph.add(
            "BatchNormalization", [f"c{number}", *moments, f"var{number}"], f"n{number}", **epsilon
        )
        last = graph.add("Relu", [f"n{number}"], f"r{number}")
        channels = 8
    graph.add("GlobalAveragePool", [last], "p")
    graph.add("Flatten", ["p"], "f")
    graph.add("Gemm", ["f", graph.weight("v", 8, 16)], "y")
    graph.output("y", ["n", 16])


def _one_filter_bank(graph: Graph) -> None:
    """One weight that many convolutions read, as of octaves of a sound."""
    graph.input("x", FLOAT, ["n", 1, 256])
    bank, bias = graph.weight("bank", 16, 1, 32), graph.weight("bias", 16)
    parts, last = [], "x"
    for octave in range(6):
        made = graph.add("Conv", [last, bank, bias], f"c{octave}", pads=[16, 15])
        parts.append(graph.add("ReduceMax", [made], f"m{octave}", axes=[2], keepdims=0))
        last = graph.add("Mul", [last, graph.scalar(f"half{octave}", 0.7)], f"x{octave}")
    graph.add("Concat", parts, "y", axis=1)
    graph.output("y")


def _lists(graph: Graph) -> None:
    """An output that is a list of tensors."""
    graph.input("x", FLOAT, ["n", 32])
    graph.add("MatMul", ["x", graph.weight("w", 32, 64)], "h")
    graph.add("SplitToSequence", ["h", graph.ints("sizes", 32, 32)], "y", axis=1)
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    graph.outputs.append(helper.make_value_info("y", sequence))


GRAPHS = {
    **SIGNATURES,
    "constants": _constants,
    "outer weights": _outer_weights,
    "states": _states,
    "no shapes": _no_shapes,
    "old": _old,
    "half weights": _half_weights,
    "double weights": _double_weights,
    "labels": _labels,
    "trees": _trees,
    "words": _words,
    "only convolutions": _only_convolutions,
    "read twice": _read_twice,
    "inner weights": _inner_weights,
    "recurrent": _recurrent,
    "unfolded": _unfolded,
    "one filter bank": _one_filter_bank,
    "lists": _lists,
}
"""Graphs of which something is unusual, besides what their signatures lack."""


def strange_graph(kind: str, file: Path, seed: int) -> Path:
    """Write a graph of a kind of `GRAPHS`, and beside it ``samples.npz`` where data are unusual."""
    graph = Graph(seed)
    GRAPHS[kind](graph)
    if kind == "old":
        return graph.save(file, graph.pick(7, 8, 9, 10, 12), 4)
    return graph.save(file)


def state_samples(file: Path, seed: int, hidden: int, count: int = 8) -> Path:
    """Write calibration arrays for the kind ``states``, in one of the layouts that are natural."""
    random = np.random.default_rng(seed)

    def pick(*choices: Any) -> Any:
        return choices[int(random.integers(len(choices)))]

    x = random.standard_normal(pick((count, 5, 8), (count, 1, 5, 8))).astype(np.float32)
    state = random.standard_normal(
        pick((count, 2, 1, hidden), (count, 2, hidden), (2, 1, hidden))
    ).astype(np.float32)
    gain = pick(np.float32(1), np.ones(count, np.float32))
    arrays = {"x": x, "h0": state, "gain": gain}
    np.savez(file, **{name: arrays[name] for name in random.permutation(list(arrays))})
    return file
