"""Which files an ONNX model names, compared with what the ``onnx`` package reads."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgecompress.errors import DataError
from edgecompress.onnx_files import (
    external_data,
    model_digests,
    model_versions,
    onnx_model_files,
)
from edgecompress.values import Candidate, OnnxModel


def outside(location: str) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)
    return tensor


def test_finds_tensors_wherever_they_lie(tmp_path: Path) -> None:
    def graph(nodes: list[onnx.NodeProto], *tensors: onnx.TensorProto) -> onnx.GraphProto:
        return helper.make_graph(nodes, "g", [], [], list(tensors))

    constant = helper.make_node("Constant", [], ["c"], value=outside("attribute"))
    branch = helper.make_node(
        "If",
        ["x"],
        ["y"],
        then_branch=graph([], outside("deep/branch")),
        else_branch=graph([constant]),
    )
    many = helper.make_node("Custom", [], ["z"], domain="d", list=[outside("listed")])
    top = graph([branch, many], outside("initializer"), outside("initializer"))
    sparse = top.sparse_initializer.add(dims=[4])
    sparse.values.CopyFrom(outside("values"))
    sparse.indices.CopyFrom(outside("indices"))
    function = helper.make_function(
        "d",
        "f",
        [],
        ["c"],
        [helper.make_node("Constant", [], ["c"], value=outside("function"))],
        [helper.make_opsetid("", 17)],
    )
    model = helper.make_model(top, functions=[function])
    model.training_info.add().algorithm.CopyFrom(graph([], outside("training")))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert external_data(tmp_path / "model.onnx") == (
        "attribute",
        "deep/branch",
        "function",
        "indices",
        "initializer",
        "listed",
        "training",
        "values",
    )


def test_weights_inside_name_no_file(tmp_path: Path) -> None:
    weights = onnx.numpy_helper.from_array(np.zeros((64, 64), np.float32), "w")
    model = helper.make_model(helper.make_graph([], "g", [], [], [weights]))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert external_data(tmp_path / "model.onnx") == ()


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"")
    with pytest.raises(DataError, match=r"model\.onnx: not an ONNX model \(.*empty|is empty"):
        external_data(file)
    file.write_bytes(b"\x3a\xff\xff\x03cut off")
    with pytest.raises(DataError, match="cut off"):
        external_data(file)


def test_endless_nesting_is_refused(tmp_path: Path) -> None:
    def field(tag: int, content: bytes) -> bytes:
        size, left = b"", len(content)
        while left > 0x7F:
            size, left = size + bytes([left & 0x7F | 0x80]), left >> 7
        return bytes([tag]) + size + bytes([left]) + content

    graph = b""
    for _ in range(200):  # a graph with a node with an attribute with a graph …
        graph = field(0x0A, field(0x2A, field(0x32, graph)))
    (tmp_path / "model.onnx").write_bytes(field(0x3A, graph))
    with pytest.raises(DataError, match="nested too deeply"):
        external_data(tmp_path / "model.onnx")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_models_are_read_or_refused(
    tmp_path: Path, classifier: Candidate, data: st.DataObject
) -> None:
    content = bytearray((classifier.model.directory / "model.onnx").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    with contextlib.suppress(DataError):
        external_data(file)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "a/../../b"])
def test_external_data_stays_in_the_folder(location: str, tmp_path: Path) -> None:
    file = write_external(tmp_path, location)
    with pytest.raises(DataError, match=r"model\.onnx: its external data .* outside its folder"):
        onnx_model_files(file)


def test_neighbours_are_no_part_of_a_model(tmp_path: Path) -> None:
    file = write_external(tmp_path, "weights/a.bin")
    (tmp_path / "neighbour.bin").write_bytes(b"x")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "a.bin").write_bytes(b"1234")
    assert onnx_model_files(file) == (file, tmp_path / "weights" / "a.bin")
    assert sorted(model_digests(OnnxModel(file))) == ["model.onnx", "weights/a.bin"]


def write_external(folder: Path, location: str) -> Path:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    node = helper.make_node("Identity", ["w"], ["y"])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([node], "g", [], [output], [tensor])
    (folder / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    return folder / "model.onnx"


def test_versions_are_those_that_onnx_reads(tmp_path: Path) -> None:
    graph = helper.make_graph([], "g", [], [])
    wanted = [helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("", 19)]
    model = helper.make_model(graph, opset_imports=wanted, ir_version=9)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert model_versions(tmp_path / "model.onnx") == (9, 19)
    (tmp_path / "bare.onnx").write_bytes(onnx.ModelProto(graph=graph).SerializeToString())
    assert model_versions(tmp_path / "bare.onnx") == (0, 0)
    for content, says in ((b"", "empty"), (b"\xff" * 20, "not an ONNX model")):
        (tmp_path / "broken.onnx").write_bytes(content)
        with pytest.raises(DataError, match=says):
            model_versions(tmp_path / "broken.onnx")
