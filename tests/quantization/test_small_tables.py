"""Small tables are stored in 4 or 8 bits, and decoded once: when the file is loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecompress.models.graph_bounds import index_bounds
from edgecompress.models.session import open_session
from edgecompress.models.storage import read_model, write_model
from edgecompress.quantization.arithmetic.blocks import dequantize_blocks, quantize_block_table
from edgecompress.quantization.arithmetic.weights import (
    dequantize,
    quantize_rows,
    quantize_table,
)
from edgecompress.quantization.graphs.baking import bake
from edgecompress.quantization.graphs.fusion import operator_counts
from edgecompress.quantization.plan.scheme import Scheme
from edgecompress.quantization.prove.proof import coverage
from edgecompress.quantization.write.embedding_nodes import AT_LOAD_BYTES
from edgecompress.quantization.write.writer import rewrite
from edgecompress.values import OnnxModel

WIDTH = 64
LARGE = AT_LOAD_BYTES // (4 * WIDTH) + 1
SCHEMES = {
    "int4": Scheme(embedding_bits=4, embedding_block=32, least_table=0),
    "table": Scheme(),
    "rows": Scheme(rows=True),
}
DECODED = {
    "int4": lambda table: dequantize_blocks(quantize_block_table(table, 32)),
    "table": lambda table: dequantize(quantize_table(table)),
    "rows": lambda table: dequantize(quantize_rows(table), axis=0),
}


def table_of(rows: int) -> np.ndarray:
    return np.random.default_rng(rows).normal(0, 0.05, (rows, WIDTH)).astype(np.float32)


def written(scheme: Scheme, rows: int, folder: Path, opset: int = 17) -> OnnxModel:
    """Write a model that looks up twice in one table, and quantize it."""
    int64 = TensorProto.INT64
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["t", "ids"], ["first"], "first"),
            helper.make_node("Gather", ["t", "others"], ["second"], "second"),
            helper.make_node("Sub", ["first", "second"], ["y"], "y"),
        ],
        "tables",
        [helper.make_tensor_value_info(name, int64, ["n"]) for name in ("ids", "others")],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTH])],
        [numpy_helper.from_array(table_of(rows), "t")],
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "fp32.onnx")
    model, _ = rewrite(read_model(folder / "fp32.onnx"), scheme)
    write_model(model, folder / "quantized.onnx")
    return OnnxModel(folder / "quantized.onnx")


def answers(model: OnnxModel, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids, others = np.arange(rows), np.arange(rows)[::-1].copy()
    return open_session(model).run(None, {"ids": ids, "others": others})[0], ids, others


@pytest.mark.parametrize("opset", [11, 17, 21])
@pytest.mark.parametrize("form", SCHEMES)
def test_decoded_when_loaded(form: str, opset: int, tmp_path: Path) -> None:
    model = written(SCHEMES[form], 50, tmp_path, opset)
    found, ids, others = answers(model, 50)
    decoded = DECODED[form](table_of(50))
    np.testing.assert_array_equal(found, decoded[ids] - decoded[others])
    ran = coverage(model)
    assert ran.operators == {"Gather": 2, "Sub": 1}
    bits = "int4" if form == "int4" else "int8"
    assert [part.dtype for part in ran.int8_embeddings] == [bits] * 2
    assert sorted(ran.to_json().get("stored_in_4_bits", [])) == (
        ["first", "second"] if form == "int4" else []
    )
    assert index_bounds(onnx.load(model.path)) == {"ids": 50, "others": 50}


@pytest.mark.parametrize("form", SCHEMES)
def test_baking_leaves_it_small(form: str, tmp_path: Path) -> None:
    model = written(SCHEMES[form], 5000, tmp_path)
    bake(model, "extended", tmp_path / "baked.onnx")
    sizes = [(tmp_path / name).stat().st_size for name in ("quantized.onnx", "baked.onnx")]
    assert abs(sizes[1] - sizes[0]) < 2000
    baked = OnnxModel(tmp_path / "baked.onnx")
    np.testing.assert_array_equal(answers(baked, 5000)[0], answers(model, 5000)[0])
    assert coverage(baked).operators == coverage(model).operators
    assert {*coverage(baked).parts} == {*coverage(model).parts}
    assert coverage(baked).operators == {"Gather": 2, "Sub": 1}
    bake(baked, "extended", tmp_path / "again.onnx")
    assert abs((tmp_path / "again.onnx").stat().st_size - sizes[1]) < 100


@pytest.mark.parametrize(
    ("form", "operator"),
    [("int4", "GatherBlockQuantized"), ("table", "DequantizeLinear"), ("rows", "Cast")],
)
def test_rows_of_a_large_table_are_decoded_as_they_are_read(
    form: str, operator: str, tmp_path: Path
) -> None:
    model = written(SCHEMES[form], LARGE, tmp_path)
    found, ids, others = answers(model, LARGE)
    decoded = DECODED[form](table_of(LARGE))
    np.testing.assert_array_equal(found, decoded[ids] - decoded[others])
    ran = coverage(model)
    assert ran.operators[operator] == 2
    assert len(ran.int8_embeddings) == 2 and not ran.fp32_embeddings
    assert "BitShift" not in operator_counts(model.path)
    bake(model, "extended", tmp_path / "baked.onnx")
    baked = OnnxModel(tmp_path / "baked.onnx")
    assert abs(baked.path.stat().st_size - model.path.stat().st_size) < 2000
    np.testing.assert_array_equal(answers(baked, LARGE)[0], found)
