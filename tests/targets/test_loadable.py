"""What keeps a model from loading is found before any process is started."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecompress.errors import DataError
from edgecompress.targets.loadable import check_loadable
from edgecompress.values import OnnxModel

value = helper.make_tensor_value_info


def save(path: Path, *nodes: onnx.NodeProto) -> OnnxModel:
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [1])], [value("y", TensorProto.FLOAT, [1])]
    )
    onnx.save(helper.make_model(graph), str(path))
    return OnnxModel(path)


def test_onnx_and_contributed_operators_are_known(tmp_path: Path) -> None:
    check_loadable(
        save(
            tmp_path / "m.onnx",
            helper.make_node("Relu", ["x"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"], domain="ai.onnx"),
            helper.make_node("FastGelu", ["b"], ["c"], domain="com.microsoft"),
            helper.make_node("Normalizer", ["c"], ["y"], domain="ai.onnx.ml"),
        )
    )


@pytest.mark.parametrize(
    ("domain", "name", "advice"),
    [("my.domain", "my.domain::Foo", "local function"), ("", "ai.onnx::Foo", "standard operators")],
)
def test_unknown_operators_are_named(domain, name, advice, tmp_path: Path) -> None:
    node = helper.make_node("Foo", ["x"], ["y"], name="there", domain=domain)
    with pytest.raises(DataError, match=rf"{name} \(node 'there'\) is unknown .*{advice}"):
        check_loadable(save(tmp_path / "m.onnx", node))


def test_one_within_a_branch_is_found_too(tmp_path: Path) -> None:
    out = [value("z", TensorProto.FLOAT, [1])]
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(op, ["x"], ["z"], domain="my")], name, [], out
        )
        for name, op in (("then", "Foo"), ("else", "Bar"))
    }
    condition = helper.make_node("Cast", ["x"], ["c"], to=TensorProto.BOOL)
    choice = helper.make_node("If", ["c"], ["y"], **branches)
    with pytest.raises(DataError, match=r"my::Bar is unknown .*, as is my::Foo"):
        check_loadable(save(tmp_path / "m.onnx", condition, choice))


def test_external_data_must_be_whole(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.zeros((1, 1000), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["y"])], "g", [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, None)], [weight],
    )  # fmt: skip
    file, data = tmp_path / "m.onnx", tmp_path / "m.data"
    onnx.save(helper.make_model(graph), str(file), save_as_external_data=True, location=data.name)
    check_loadable(OnnxModel(file))
    data.write_bytes(bytes(100))
    with pytest.raises(DataError, match=r"m\.data: .*cut off: 100 bytes of 4000"):
        check_loadable(OnnxModel(file))
    data.unlink()
    with pytest.raises(DataError, match=r"m\.data: .*missing"):
        check_loadable(OnnxModel(file))
