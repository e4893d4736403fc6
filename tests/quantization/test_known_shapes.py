"""What a convolutional graph computes of its own shapes is worked out; its answers stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecompress.models.storage import read_model, write_model
from edgecompress.quantization.graphs.shapes import fold_shapes, with_known_shapes
from edgecompress.values import OnnxModel


def same_padding(batch: Any, side: Any, *, value: float = 0.0, mode: str = "constant") -> Any:
    """Give a graph that pads as exports of TensorFlow's models do, and takes a mean at its end."""
    constants = {
        "two": np.array([2, 2], np.int64), "one": np.array([1, 1], np.int64),
        "spatial": np.array([2, 3], np.int64), "zeros": np.zeros(2, np.int64),
        "value": np.array(value, np.float32), "axes": np.array([2, 3], np.int64),
        "weight": np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "spatial"], ["sides"]),
        node("Mod", ["sides", "two"], ["odd"]),
        node("Sub", ["two", "odd"], ["more"]),
        node("Sub", ["more", "one"], ["ends"]),
        node("Concat", ["zeros", "one", "zeros", "ends"], ["amounts"], axis=0),
        node("Pad", ["x", "amounts", "value"], ["padded"], mode=mode),
        node("Conv", ["padded", "weight"], ["c"], strides=[2, 2], kernel_shape=[3, 3]),
        node("Relu", ["c"], ["r"]),
        node("ReduceMean", ["r", "axes"], ["y"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes, "same",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(made, full_check=True)
    return made


def answers(file: Path, batch: int, side: int) -> np.ndarray:
    feed = {"x": np.random.default_rng(1).normal(size=(batch, 3, side, side)).astype(np.float32)}
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(None, feed)[0]


@pytest.mark.parametrize("side", [16, 17])
def test_shapes_are_constant_where_the_graph_says_them(tmp_path: Path, side: int) -> None:
    file = tmp_path / "model.onnx"
    onnx.save(same_padding("batch", side), file)
    made, stored = with_known_shapes(OnnxModel(file), read_model(file), tmp_path / "made")
    kinds = [node.op_type for node in stored.proto.graph.node]
    assert kinds == ["Conv", "Relu", "GlobalAveragePool", "Flatten"]
    (pads,) = (one.ints for one in stored.proto.graph.node[0].attribute if one.name == "pads")
    assert list(pads) == [1, 1, 1 - side % 2, 1 - side % 2]
    for batch in (1, 3):
        found = answers(made.path, batch, side)
        assert np.allclose(found, answers(file, batch, side), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ({"side": "side"}, {"Shape", "Mod", "Pad"}),
        ({"side": 16, "value": 1.0}, {"Pad"}),
        ({"side": 16, "mode": "reflect"}, {"Pad"}),
    ],
)
def test_what_is_not_known_or_no_padding_with_zeros_stays(
    tmp_path: Path, arguments: dict[str, Any], left: set[str]
) -> None:
    file = tmp_path / "model.onnx"
    onnx.save(same_padding("batch", **arguments), file)
    stored = read_model(file)
    assert fold_shapes(stored)  # the mean at the end is pooling all the same
    assert left <= {node.op_type for node in stored.proto.graph.node}
    write_model(stored, tmp_path / "made.onnx")
    found = answers(tmp_path / "made.onnx", 2, 16)
    assert np.allclose(found, answers(file, 2, 16), atol=1e-6)


def test_padding_that_others_read_stays_and_so_does_a_graph_without_convolutions(
    tmp_path: Path,
) -> None:
    shared = same_padding("batch", 16)
    shared.graph.output.append(
        helper.make_tensor_value_info("padded", TensorProto.FLOAT, ["batch", 3, 18, 18])
    )
    onnx.save(shared, tmp_path / "shared.onnx")
    stored = read_model(tmp_path / "shared.onnx")
    fold_shapes(stored)
    assert "Pad" in {node.op_type for node in stored.proto.graph.node}
    plain = same_padding("batch", 16)
    del plain.graph.node[7:]
    plain.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("padded", TensorProto.FLOAT, ["batch", 3, "h", "w"])
    )
    onnx.save(plain, tmp_path / "plain.onnx")
    assert not fold_shapes(read_model(tmp_path / "plain.onnx"))
