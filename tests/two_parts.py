"""A small model of two graphs, as encoder-decoder models are exported: what one gives is fed on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, PIECES = 64, 120
value = helper.make_tensor_value_info


def _weight(name: str, *shape: int) -> onnx.TensorProto:
    chance = np.random.default_rng(list(name.encode()))
    scaled = chance.standard_normal(shape) / np.sqrt(shape[0])
    return numpy_helper.from_array(scaled.astype(np.float32), name)


def _save(file: Path, graph: onnx.GraphProto) -> None:
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), str(file))


def write_two_parts(folder: Path) -> Path:
    """Write ``encoder.onnx`` (frames → states) and ``decoder.onnx`` (states, ids → logits)."""
    folder.mkdir(parents=True, exist_ok=True)
    states = ["batch", "frames", WIDTH]
    nodes = [
        helper.make_node("MatMul", ["frames", "w1"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w2"], ["states"], "second"),
    ]
    graph = helper.make_graph(
        nodes, "encoder",
        [value("frames", TensorProto.FLOAT, ["batch", "frames", 32])],
        [value("states", TensorProto.FLOAT, states)],
        [_weight("w1", 32, WIDTH), _weight("w2", WIDTH, WIDTH)],
    )  # fmt: skip
    _save(folder / "encoder.onnx", graph)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"], "embedding"),
        helper.make_node("ReduceMean", ["states"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Add", ["embedded", "mean"], ["joined"]),
        helper.make_node("MatMul", ["joined", "out"], ["logits"], "head"),
    ]
    graph = helper.make_graph(
        nodes, "decoder",
        [
            value("input_ids", TensorProto.INT64, ["batch", "length"]),
            value("states", TensorProto.FLOAT, states),
        ],
        [value("logits", TensorProto.FLOAT, ["batch", "length", PIECES])],
        [_weight("table", PIECES, WIDTH), _weight("out", WIDTH, PIECES)],
    )  # fmt: skip
    _save(folder / "decoder.onnx", graph)
    return folder


def write_samples(folder: Path, count: int = 12) -> Path:
    """Write calibration data: a file for each part."""
    folder.mkdir()
    chance = np.random.default_rng(3)
    draw = lambda *shape: chance.standard_normal(shape).astype(np.float32)  # noqa: E731
    np.savez(folder / "encoder.npz", frames=draw(count, 7, 32))
    ids = chance.integers(0, PIECES, (count, 5))
    np.savez(folder / "decoder.npz", input_ids=ids, states=draw(count, 7, WIDTH))
    return folder
