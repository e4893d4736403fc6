"""A small graph of which one layer is quantized, one was left out, and one has no weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgecompress.values import Candidate, OnnxModel, Step

WIDTH = 32


def two_layers(folder: Path) -> Candidate:
    """Write ``model.onnx``: x @ int8 weight, @ fp32 weight, @ its own transpose."""
    weight = np.random.default_rng(0).standard_normal((WIDTH, WIDTH)).astype(np.float32)
    integer = np.clip(np.round(weight * 20), -127, 127).astype(np.int8)
    nodes = [
        helper.make_node(
            "DynamicQuantizeMatMul", ["x", "w8", "scale"], ["a"], "integer", domain="com.microsoft"
        ),
        helper.make_node("MatMul", ["a", "w32"], ["b"], "kept"),
        helper.make_node("Transpose", ["b"], ["t"], "turned", perm=[1, 0]),
        helper.make_node("MatMul", ["b", "t"], ["c"], "computed"),
        helper.make_node("Softmax", ["c"], ["y"], "soft"),
    ]
    graph = helper.make_graph(
        nodes,
        "two layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "batch"])],
        [
            numpy_helper.from_array(integer, "w8"),
            numpy_helper.from_array(weight, "w32"),
            numpy_helper.from_array(np.float32(0.05), "scale"),
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    step = Step("quantize.dynamic", {}, {"exceptions": {"w32": "excluded by the recipe"}})
    return Candidate(OnnxModel(path), steps=(step,))
