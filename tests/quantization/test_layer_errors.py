"""Errors per tensor between a model and its quantized form, on a graph whose errors are known."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecompress.errors import StageError
from edgecompress.models.storage import read_model, write_model
from edgecompress.quantization.plan.scheme import Scheme
from edgecompress.quantization.prove.layer_errors import EXACT_DB, tensor_errors, worst_step
from edgecompress.quantization.write.writer import rewrite
from edgecompress.values import OnnxModel


def write(path, weights, last="y"):
    names = ["x", *(f"h{i}" for i in range(1, len(weights))), last]
    nodes = [
        helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]], f"m{i}")
        for i in range(len(weights))
    ]
    nodes.append(helper.make_node("Shape", ["x"], ["size"], "shape"))
    graph = helper.make_graph(
        nodes,
        "stack",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", 8])],
        [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, path)
    return OnnxModel(path)


WEIGHTS = [np.random.default_rng(i).normal(size=(8, 8)).astype(np.float32) for i in range(3)]
FEEDS = [{"x": np.random.default_rng(s).normal(size=(2, 8)).astype(np.float32)} for s in range(4)]


def test_errors_are_those_that_numpy_finds(tmp_path):
    first = write(tmp_path / "a.onnx", WEIGHTS)
    changed = [WEIGHTS[0], WEIGHTS[1] * np.float32(1.1), WEIGHTS[2]]
    found = tensor_errors(first, write(tmp_path / "b.onnx", changed), FEEDS, tmp_path / "work")
    assert [one.tensor for one in found] == ["h1", "h2", "y"]  # in order; `size` is no float
    assert found[0].snr_db == EXACT_DB and found[0].largest_error == 0
    x = np.concatenate([feed["x"] for feed in FEEDS]).astype(np.float64)
    h2 = x @ WEIGHTS[0] @ WEIGHTS[1]
    assert found[1].snr_db == pytest.approx(20.0, abs=0.01)  # a tenth of it
    assert found[1].mean_error == pytest.approx(np.abs(h2).mean() / 10, rel=1e-3)
    assert found[1].largest_error == pytest.approx(np.abs(h2).max() / 10, rel=1e-3)
    assert (found[1].node, found[1].op, found[1].values) == ("m1", "MatMul", 4 * 2 * 8)
    assert not list((tmp_path / "work").rglob("*.onnx"))


def test_the_step_down_is_found_in_a_quantized_model(tmp_path):
    outlier = [WEIGHTS[0], WEIGHTS[1].copy(), WEIGHTS[2]]
    outlier[1][0, 0] = 500.0  # per tensor, one number ruins all others
    first = write(tmp_path / "a.onnx", outlier)
    stored, _ = rewrite(read_model(first.path), Scheme(per_channel=False))
    write_model(stored, tmp_path / "q.onnx")
    found = tensor_errors(first, OnnxModel(tmp_path / "q.onnx"), FEEDS, tmp_path / "work")
    assert found[0].snr_db > 30
    step = worst_step(found)
    assert step is not None and step.tensor in ("h2", "y")


def test_models_without_a_common_tensor_and_wrong_samples_are_refused(tmp_path):
    first = write(tmp_path / "a.onnx", WEIGHTS[:1])
    other = write(tmp_path / "b.onnx", WEIGHTS[:1], last="z")
    with pytest.raises(StageError, match="no tensor in common"):
        tensor_errors(first, other, FEEDS, tmp_path / "work")
    with pytest.raises(StageError, match="does not fit"):
        wrong = [{"x": np.zeros((2, 5), np.float32)}]
        tensor_errors(first, first, wrong, tmp_path / "work")
    with pytest.raises(StageError, match="no sample"):
        tensor_errors(first, first, [], tmp_path / "work")
