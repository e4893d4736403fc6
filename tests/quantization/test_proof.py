"""`coverage` reads from the executed graph what is int8, on hand-made graphs of known content."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecompress.errors import StageError
from edgecompress.quantization.prove.proof import check_model, coverage
from edgecompress.values import OnnxModel, SessionSettings


def tiny(path: Path) -> OnnxModel:
    """ids (batch, length) → embedding (40, 16) → linear (16, 8) → logits."""
    random = np.random.default_rng(0)
    table = random.standard_normal((40, 16)).astype(np.float32)
    weight = random.standard_normal((16, 8)).astype(np.float32)
    bias = random.standard_normal(8).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["rows"], "embed"),
            helper.make_node("MatMul", ["rows", "weight"], ["product"], "linear"),
            helper.make_node("Add", ["product", "bias"], ["logits"], "bias_add"),
        ],
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "length", 8])],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(bias, "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return OnnxModel(path)


def test_fp32_graph_is_named_as_such(tmp_path: Path) -> None:
    found = coverage(tiny(tmp_path / "m.onnx"))
    assert [(p.name, p.weight, p.shape, p.dtype) for p in found.fp32_linears] == [
        ("linear", "weight", (16, 8), "fp32")
    ]
    assert [p.weight for p in found.fp32_embeddings] == ["table"]
    assert not found.int8_linears and not found.int8_embeddings
    assert found.to_json({"weight": "kept: too sensitive"})["exceptions"] == {
        "embed": "the weight is fp32 in the file",
        "linear": "kept: too sensitive",
    }


def test_onnxruntimes_own_dynamic_quantization_is_int8(tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    tiny(tmp_path / "m.onnx")
    quantize_dynamic(tmp_path / "m.onnx", tmp_path / "q.onnx", per_channel=True)
    model = OnnxModel(tmp_path / "q.onnx")
    check_model(model)
    found = coverage(model)
    assert len(found.int8_linears) == 1 and len(found.int8_embeddings) == 1
    assert found.to_json()["exceptions"] == {}
    assert found.int8_linears[0].op in {"MatMulInteger", "MatMulIntegerToFloat"}
    unfused = coverage(OnnxModel(model.path, SessionSettings("disable")))
    assert unfused.operators["MatMulInteger"] == 1


def test_a_weight_that_is_only_stored_as_int8_is_no_int8_layer(tmp_path: Path) -> None:
    source = onnx.load(tiny(tmp_path / "m.onnx").path)
    graph = source.graph
    for name in ("weight", "table"):
        tensor = next(t for t in graph.initializer if t.name == name)
        shape = tuple(tensor.dims)
        tensor.CopyFrom(numpy_helper.from_array(np.ones(shape, np.int8), name + "_q"))
        graph.initializer.append(numpy_helper.from_array(np.float32(0.1), name + "_scale"))
        node = helper.make_node("DequantizeLinear", [name + "_q", name + "_scale"], [name], name)
        graph.node.insert(0, node)
    onnx.save(source, tmp_path / "q.onnx")
    found = coverage(OnnxModel(tmp_path / "q.onnx", SessionSettings("basic")))
    assert {p.name for p in (*found.fp32_linears, *found.fp32_embeddings)} == {"linear", "embed"}
    assert all("dequantizes it" in p.reason or "fp32" in p.reason for p in found.parts)


def test_a_file_that_is_no_model_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    with pytest.raises(StageError, match=r"m\.onnx: not valid ONNX"):
        check_model(OnnxModel(tmp_path / "m.onnx"))
    with pytest.raises(StageError, match="cannot load this file"):
        coverage(OnnxModel(tmp_path / "m.onnx"))
