"""What an ONNX file says of itself: inputs, operators, external data; files that are none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecompress.errors import DataError
from edgecompress.models.graph import graph_facts, signature
from edgecompress.onnx_files import external_data
from edgecompress.values import OnnxModel, TensorSpec

value = helper.make_tensor_value_info


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    **more: object,
) -> OnnxModel:
    out = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", inputs, [out], more.pop("initializer", None))  # type: ignore[arg-type]
    onnx.save(helper.make_model(graph, **more), str(path))
    return OnnxModel(path)


def test_inputs_with_names_for_open_axes(tmp_path: Path) -> None:
    inputs = [
        value("pixels", TensorProto.FLOAT16, ["batch", 3, 8, None]),
        value("weight", TensorProto.FLOAT, [2]),
        value("flag", TensorProto.BOOL, []),
    ]
    node = helper.make_node("Identity", ["flag"], ["y"])
    weight = numpy_helper.from_array(np.zeros(2, np.float32), "weight")
    model = save(tmp_path / "m.onnx", [node], inputs, initializer=[weight])
    assert signature(model) == (
        TensorSpec("pixels", "float16", ("batch", 3, 8, "pixels.3")),
        TensorSpec("flag", "bool", ()),
    )


def test_inputs_that_are_no_tensors(tmp_path: Path) -> None:
    given = helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None)
    node = helper.make_node("ConcatFromSequence", ["parts"], ["y"], axis=0)
    with pytest.raises(DataError, match="'parts' is a sequence, and only tensors"):
        signature(save(tmp_path / "m.onnx", [node], [given]))
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [1]))
    given = helper.make_value_info("maybe", kind)
    node = helper.make_node("OptionalGetElement", ["maybe"], ["y"])
    with pytest.raises(DataError, match="'maybe' is an optional"):
        signature(save(tmp_path / "n.onnx", [node], [given]))


def test_an_input_of_any_rank(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    model = save(tmp_path / "m.onnx", [node], [value("x", TensorProto.FLOAT, None)])
    with pytest.raises(DataError, match=r"'x' does not say how many axes.*\.npz"):
        signature(model)


def test_operators_of_subgraphs_and_local_functions(tmp_path: Path) -> None:
    floats = [value("x", TensorProto.FLOAT, [1]), value("c", TensorProto.BOOL, [])]
    inner = [value("z", TensorProto.FLOAT, [1])]
    yes = helper.make_graph([helper.make_node("Relu", ["x"], ["z"])], "yes", [], inner)
    no = helper.make_graph([helper.make_node("Twice", ["x"], ["z"], domain="my")], "no", [], inner)
    function = helper.make_function(
        "my", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 21)],
    )  # fmt: skip
    node = helper.make_node("If", ["c"], ["y"], then_branch=yes, else_branch=no)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("my", 1)]
    model = save(tmp_path / "m.onnx", [node], floats, functions=[function], opset_imports=opsets)
    names = {str(found) for found in graph_facts(model.path).operators}
    assert names == {"ai.onnx::If", "ai.onnx::Relu", "ai.onnx::Add"}


def test_external_data_and_how_long_it_must_be(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.zeros((4, 600), np.float32), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph(
        [node], "g", [value("x", TensorProto.FLOAT, [1, 4])],
        [value("y", TensorProto.FLOAT, [1, 600])], [weight],
    )  # fmt: skip
    file = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph), str(file), save_as_external_data=True, location="m.data")
    assert external_data(file) == ("m.data",)
    assert graph_facts(file).external == {"m.data": 4 * 600 * 4}


def test_facts_follow_the_file(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    for name in ("a", "longer"):
        node = helper.make_node("Identity", [name], ["y"])
        save(file, [node], [value(name, TensorProto.FLOAT, [1])])
        assert graph_facts(file).inputs[0].name == name


@pytest.mark.parametrize("content", [None, b"", b"not a model", bytes(100), "short", "folder"])
def test_no_model(content: bytes | str | None, tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    if content == "folder":
        file.mkdir()
    elif content == "short":
        node = helper.make_node("Identity", ["x"], ["y"])
        save(file, [node], [value("x", TensorProto.FLOAT, [1])])
        whole = file.read_bytes()
        for length in range(1, len(whole)):
            file.write_bytes(whole[:length])
            with pytest.raises(DataError, match=r"m\.onnx: "):
                signature(OnnxModel(file))
    elif content is not None:
        file.write_bytes(content)  # type: ignore[arg-type]
    if content != "short":
        with pytest.raises(DataError, match=r"m\.onnx: "):
            signature(OnnxModel(file))
