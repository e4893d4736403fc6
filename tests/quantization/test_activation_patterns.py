"""GELU of PyTorch's exporter is one kernel when ONNX Runtime loads the file."""

import itertools
import math

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgecompress.models.storage import read_model, write_model
from edgecompress.quantization.graphs.baking import bake
from edgecompress.quantization.graphs.fusion import operator_counts
from edgecompress.quantization.graphs.patterns import prepare_for_fusion
from edgecompress.surgery.dynamo_export import Traced, export_module
from edgecompress.values import OnnxModel

KERNEL = {"Erf": "BiasGelu", "Tanh": "FastGelu"}


def gelu(curve, orders, half=0.5):
    """x · (½ · (1 + curve)) behind a bias, its three operators with operands in these orders."""
    if curve == "Erf":
        inner = [("Div", ["x", "root"], "scaled"), ("Erf", ["scaled"], "curve")]
    else:
        inner = [("Pow", ["x", "three"], "cube"), ("Mul", ["cube", "small"], "part"),
                 ("Add", ["x", "part"], "sum"), ("Mul", ["sum", "root"], "scaled"),
                 ("Tanh", ["scaled"], "curve")]  # fmt: skip
    nodes = [
        ("Add", ["given", "bias"], "x"),
        *inner,
        ("Add", ["curve", "one"][:: orders[0]], "total"),
        ("Mul", ["total", "half"][:: orders[1]], "share"),
        ("Mul", ["x", "share"][:: orders[2]], "gelu"),
        ("Neg", ["gelu"], "y"),
    ]
    values = {"one": 1, "half": half, "three": 3, "small": 0.044715}
    values["root"] = math.sqrt(2) if curve == "Erf" else math.sqrt(2 / math.pi)
    tensors = [numpy_helper.from_array(np.float32(v), n) for n, v in values.items()]
    bias = np.random.default_rng(0).normal(size=8).astype(np.float32)
    shape = ["batch", "length", 8]
    graph = helper.make_graph(
        [helper.make_node(op, inputs, [name], name) for op, inputs, name in nodes],
        "gelu",
        [helper.make_tensor_value_info("given", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [*tensors, numpy_helper.from_array(bias, "bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def written(proto, folder):
    onnx.save(proto, folder / "given.onnx")
    model = read_model(folder / "given.onnx")
    changed = prepare_for_fusion(model)
    write_model(model, folder / "prepared.onnx")
    return changed, folder / "prepared.onnx"


def results(path, feed):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feed)


@pytest.mark.parametrize("curve", ["Erf", "Tanh"])
def test_gelu_is_one_kernel_in_whatever_order_its_factors_stand(tmp_path, curve):
    feed = {"given": np.random.default_rng(1).normal(0, 3, (2, 5, 8)).astype(np.float32)}
    for orders in itertools.product((1, -1), repeat=3):
        changed, path = written(gelu(curve, orders), tmp_path)
        assert changed
        bake(OnnxModel(path), "extended", tmp_path / "baked.onnx")
        counts = operator_counts(tmp_path / "baked.onnx")
        assert counts == {KERNEL[curve]: 1, "Neg": 1}
        before, after = (results(tmp_path / name, feed)[0] for name in ("given.onnx", path))
        assert np.array_equal(before, after)  # halving is exact
        assert not prepare_for_fusion(read_model(path))


def test_what_is_no_gelu_keeps_its_order(tmp_path):
    changed, path = written(gelu("Erf", (1, 1, 1), half=0.25), tmp_path)
    assert not changed
    assert onnx.load(path) == onnx.load(tmp_path / "given.onnx")


class Activations(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.parts = torch.nn.ModuleList([torch.nn.Linear(8, 8) for _ in range(4)])

    def forward(self, given):
        functional = torch.nn.functional
        first, tanh, gated, gate = self.parts
        x = tanh(functional.gelu(first(given)))
        x = functional.gelu(x, approximate="tanh")
        return functional.gelu(gated(x)) * gate(x)


def test_exported_gelu_gated_or_not_is_one_kernel(tmp_path):
    axes = {"given": {0: "batch", 1: "length"}}
    traced = Traced({"given": torch.randn(2, 7, 8)}, axes, ("y",))
    export_module(Activations().eval(), traced, tmp_path / "traced.onnx", 18)
    changed, path = written(onnx.load(tmp_path / "traced.onnx"), tmp_path)
    assert changed
    bake(OnnxModel(path), "extended", tmp_path / "baked.onnx")
    counts = operator_counts(tmp_path / "baked.onnx")
    assert counts["BiasGelu"] == 2 and counts["FastGelu"] == 1
    assert not {"Erf", "Tanh"} & {*counts}
