"""Inputs made from a signature: every dtype, bounds set or read from the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecompress.errors import DataError, RecipeError
from edgecompress.models.specs import NUMBERS
from edgecompress.models.synthetic import synthetic_items
from edgecompress.values import OnnxModel

value = helper.make_tensor_value_info


def save(path: Path, *inputs: onnx.ValueInfoProto, rows: int = 0) -> OnnxModel:
    """A graph that looks its first input up in a table of `rows`, or else hands it through."""
    first = inputs[0].name
    node = helper.make_node("Identity", [first], ["y"])
    tables = []
    if rows:
        node = helper.make_node("Gather", ["table", first], ["y"])
        tables = [numpy_helper.from_array(np.zeros((rows, 2), np.float32), "table")]
    out = value("y", TensorProto.FLOAT, None)
    onnx.save(helper.make_model(helper.make_graph([node], "g", inputs, [out], tables)), str(path))
    return OnnxModel(path)


def first_row(model: OnnxModel, sizes=None, bounds=None) -> dict[str, np.ndarray]:
    items = synthetic_items([model], sizes or {}, bounds or {}, count=2)[0]
    assert len(items) == 2
    return items[0]


def test_text_inputs(tmp_path: Path) -> None:
    shape = ["batch", "length"]
    names = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
    model = save(
        tmp_path / "m.onnx", *(value(name, TensorProto.INT64, shape) for name in names), rows=500
    )
    row = first_row(model)
    assert 1 < row["input_ids"].max() < 500
    assert row["attention_mask"].all()
    assert not row["token_type_ids"].any()
    assert row["position_ids"].tolist() == [list(range(32))]
    again = first_row(model)
    assert all(np.array_equal(row[name], again[name]) for name in row)


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_every_dtype(name: str, tmp_path: Path) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(name))
    row = first_row(save(tmp_path / "m.onnx", value("x", kind, [2, 3])))
    assert row["x"].dtype == np.dtype(name)
    assert row["x"].shape == (2, 3)
    if row["x"].dtype.kind in "iu":
        assert set(row["x"].ravel().tolist()) <= {0, 1}


def test_a_table_larger_than_the_dtype(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", value("x", TensorProto.UINT8, [1000]), rows=30000)
    assert 200 < first_row(model)["x"].max() <= 255


def test_bounds_that_are_set(tmp_path: Path) -> None:
    model = save(
        tmp_path / "m.onnx",
        value("x", TensorProto.INT32, [1000]),
        value("mask", TensorProto.BOOL, [100]),
        value("pixels", TensorProto.FLOAT, [100]),
        rows=30000,
    )
    row = first_row(model, bounds={"x": 10, "mask": 2, "pixels": (3, 5)})
    assert set(row["x"].tolist()) == set(range(10))
    assert {True, False} == set(row["mask"].tolist())
    assert 3 <= row["pixels"].min() < row["pixels"].max() < 5
    assert first_row(model, bounds={"x": (7, 9)})["x"].min() == 7


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({"input_id": 5}, "no such input; did you mean 'input_ids'"),
        ({"input_ids": 0}, "at least 1"),
        ({"input_ids": (3, 3)}, "the smaller"),
        ({"input_ids": 300}, "int8 holds -128 to 127"),
    ],
)
def test_bounds_that_cannot_be_kept(bounds, said, tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", value("input_ids", TensorProto.INT8, [4]))
    with pytest.raises(RecipeError, match=said) as failure:
        synthetic_items([model], {}, bounds)
    assert str(failure.value).startswith("inputs.bounds.input_id")


@pytest.mark.parametrize(
    ("kind", "name"), [(TensorProto.STRING, "string"), (TensorProto.BFLOAT16, "bfloat16")]
)
def test_dtypes_that_cannot_be_made(kind: int, name: str, tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", value("words", kind, [1]))
    with pytest.raises(DataError, match=f"'words' is of dtype {name}"):
        synthetic_items([model], {}, {})


def test_graphs_with_equal_inputs_share_them(tmp_path: Path) -> None:
    given = value("x", TensorProto.INT64, ["n", 4])
    models = [
        save(tmp_path / "a.onnx", given, rows=100),
        save(tmp_path / "b.onnx", given, rows=50),
        save(tmp_path / "c.onnx", value("x", TensorProto.INT32, ["n", 4]), rows=80),
    ]
    first, second, third = synthetic_items(models, {}, {})
    assert first is second
    assert first is not third
    assert max(item["x"].max() for item in first) < 50


def test_large_inputs_are_few(tmp_path: Path) -> None:
    model = save(tmp_path / "m.onnx", value("x", TensorProto.FLOAT, [40 * 2**20]))
    assert len(synthetic_items([model], {}, {})[0]) == 1


def test_a_graph_without_inputs_is_run_as_often(tmp_path: Path) -> None:
    node = helper.make_node("RandomNormal", [], ["y"], shape=[2])
    graph = helper.make_graph([node], "g", [], [value("y", TensorProto.FLOAT, [2])])
    onnx.save(helper.make_model(graph), str(tmp_path / "m.onnx"))
    assert synthetic_items([OnnxModel(tmp_path / "m.onnx")], {}, {})[0] == [{}] * 16
