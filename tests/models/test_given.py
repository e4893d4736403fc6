"""Inputs from an .npz file, and everything that can be wrong with one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgecompress.errors import DataError
from edgecompress.models.given import file_items
from edgecompress.values import OnnxModel


@pytest.fixture
def model(tmp_path: Path) -> OnnxModel:
    value = helper.make_tensor_value_info
    inputs = [
        value("ids", TensorProto.INT64, ["batch", "length"]),
        value("pixels", TensorProto.FLOAT, [1, 3]),
        value("free", TensorProto.FLOAT16, None),
    ]
    node = helper.make_node("Identity", ["ids"], ["y"])
    graph = helper.make_graph([node], "g", inputs, [value("y", TensorProto.INT64, None)])
    onnx.save(helper.make_model(graph), str(tmp_path / "m.onnx"))
    return OnnxModel(tmp_path / "m.onnx")


def good() -> dict[str, np.ndarray]:
    return {
        "ids": np.arange(4, dtype=np.int32)[None],
        "pixels": np.ones((1, 3), np.float32),
        "free": np.zeros((2, 2, 2), np.float16),
    }


def test_names_alone_are_one_item(model: OnnxModel, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **good())
    (item,) = file_items([model], tmp_path / "x.npz")[0]
    assert item["ids"].dtype == np.int64
    assert item["ids"].tolist() == [[0, 1, 2, 3]]
    assert item["free"].shape == (2, 2, 2)


def test_numbers_make_items_of_any_length(model: OnnxModel, tmp_path: Path) -> None:
    arrays = {f"{item}/{name}": array for item in (0, 1) for name, array in good().items()}
    arrays["1/ids"] = np.zeros((1, 9), np.int64)
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    first, second = file_items([model, model], tmp_path / "x.npz")
    assert first is second
    assert [item["ids"].shape for item in first] == [(1, 4), (1, 9)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ids": None}, "input 'ids' is missing"),
        ({"idz": good()["ids"]}, "array 'idz' is no input; did you mean 'ids'"),
        ({"ids": np.ones((1, 4))}, "array 'ids' is float64, and the graph takes int64"),
        ({"ids": np.ones(4, np.int64)}, r"'ids' has 1 axes, and the graph takes \(batch, length\)"),
        ({"pixels": np.ones((2, 3), np.float32)}, "'pixels' has size 2 on axis 0"),
        ({"ids": np.array([{}])}, "array ids holds Python objects"),
        ({"0/ids": good()["ids"]}, "has no number, and others have"),
    ],
)
def test_arrays_that_do_not_fit(change, said, model: OnnxModel, tmp_path: Path) -> None:
    arrays = {name: array for name, array in {**good(), **change}.items() if array is not None}
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=rf"x\.npz: .*{said}"):
        file_items([model], tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("names", "said"),
    [(["0/ids", "2/ids"], "1 is missing"), (["0/ids", "1/ids", "1/pixels"], "'pixels' is in one")],
)
def test_items_that_do_not_match(names, said, model: OnnxModel, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **dict.fromkeys(names, np.ones((1, 3), np.int64)))
    with pytest.raises(DataError, match=said):
        file_items([model], tmp_path / "x.npz")


def test_files_that_hold_no_inputs(model: OnnxModel, tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    with pytest.raises(DataError, match="no such file"):
        file_items([model], file)
    np.savez(file)
    with pytest.raises(DataError, match="holds no arrays"):
        file_items([model], file)
    np.savez(file, **good())
    whole = file.read_bytes()
    for content in (b"", b"text", whole[:100], whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"x\.npz: not an \.npz file, or cut off"):
            file_items([model], file)
    damaged = bytearray(whole)
    damaged[140] ^= 255
    file.write_bytes(damaged)
    with pytest.raises(DataError, match=r"x\.npz: "):
        file_items([model], file)
    with file.open("wb") as stream:
        np.save(stream, np.ones(3))
    with pytest.raises(DataError, match="one array without a name"):
        file_items([model], file)


def test_strings_are_refused(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    node = helper.make_node("Identity", ["words"], ["y"])
    kinds = [value("words", TensorProto.STRING, [1])], [value("y", TensorProto.STRING, [1])]
    onnx.save(helper.make_model(helper.make_graph([node], "g", *kinds)), str(tmp_path / "m.onnx"))
    np.savez(tmp_path / "x.npz", words=np.array(["a"]))
    with pytest.raises(DataError, match="'words' is of dtype string"):
        file_items([OnnxModel(tmp_path / "m.onnx")], tmp_path / "x.npz")
