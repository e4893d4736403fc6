"""Files are read without their weights and written back the same."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgecompress.errors import DataError
from edgecompress.models import storage
from edgecompress.models.storage import read_model, write_model


def make_model() -> onnx.ModelProto:
    random = np.random.default_rng(0)
    big = random.standard_normal((64, 32)).astype(np.float32)
    small = random.standard_normal(32).astype(np.float32)
    typed = helper.make_tensor("typed", TensorProto.FLOAT, [2], [1.5, -2.0])
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "big"], ["y"], "product"),
            helper.make_node("Add", ["y", "small"], ["z"], "sum"),
        ],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 32])],
        [numpy_helper.from_array(big, "big"), numpy_helper.from_array(small, "small"), typed],
        doc_string="a graph",
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, {"author": "a test"})
    return model


def test_a_file_is_read_without_its_weights_and_written_the_same(tmp_path: Path) -> None:
    model = make_model()
    onnx.save(model, tmp_path / "a.onnx")
    stored = read_model(tmp_path / "a.onnx")
    assert set(stored.places) == {"big"}
    assert stored.proto.ByteSize() < 1200
    big = next(t for t in stored.proto.graph.initializer if t.name == "big")
    assert np.array_equal(stored.array(big), numpy_helper.to_array(model.graph.initializer[0]))
    write_model(stored, tmp_path / "b.onnx")
    assert onnx.load(tmp_path / "b.onnx") == model


def test_external_data_is_followed(tmp_path: Path) -> None:
    model = make_model()
    onnx.save(
        make_model(),
        tmp_path / "a.onnx",
        save_as_external_data=True,
        location="a.data",
        size_threshold=100,
    )
    stored = read_model(tmp_path / "a.onnx")
    assert stored.places["big"].file == tmp_path / "a.data"
    write_model(stored, tmp_path / "b.onnx")
    written = onnx.load(tmp_path / "b.onnx")
    for before, after in zip(model.graph.initializer, written.graph.initializer, strict=True):
        assert np.array_equal(numpy_helper.to_array(before), numpy_helper.to_array(after))


def test_what_is_too_big_for_protobuf_goes_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "MOST_INLINE_BYTES", 4000)
    onnx.save(make_model(), tmp_path / "a.onnx")
    write_model(read_model(tmp_path / "a.onnx"), tmp_path / "b.onnx")
    assert (tmp_path / "b.onnx.data").stat().st_size == 64 * 32 * 4
    written = onnx.load(tmp_path / "b.onnx").graph.initializer
    for before, after in zip(make_model().graph.initializer, written, strict=True):
        assert np.array_equal(numpy_helper.to_array(before), numpy_helper.to_array(after))
    onnx.checker.check_model(str(tmp_path / "b.onnx"))


def test_external_data_may_not_leave_the_folder(tmp_path: Path) -> None:
    model = make_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match="outside the model's folder"):
        read_model(tmp_path / "a.onnx")


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.onnx: the model is missing"):
        read_model(tmp_path / "none.onnx")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_a_data_error_or_a_model(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = make_model().SerializeToString()
    cut = data.draw(st.integers(0, len(whole)))
    flipped = bytearray(whole[:cut])
    if flipped:
        flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= data.draw(st.integers(1, 255))
    file = tmp_path_factory.mktemp("damaged") / "a.onnx"
    file.write_bytes(bytes(flipped))
    try:
        read_model(file)
    except DataError as error:
        assert "a.onnx" in str(error)
