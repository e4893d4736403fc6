"""Inputs that are used as indices are bounded by what they index."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecompress.models.graph_bounds import index_bounds

value = helper.make_tensor_value_info
node = helper.make_node
INT, FLOAT = TensorProto.INT64, TensorProto.FLOAT


def table(name: str, *shape: int, dtype: type = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.zeros(shape, dtype), name)


def model(nodes: list[onnx.NodeProto], *constants: onnx.TensorProto) -> onnx.ModelProto:
    inputs = [value("ids", INT, ["n"]), value("cond", TensorProto.BOOL, [])]
    graph = helper.make_graph(nodes, "g", inputs, [value("y", FLOAT, None)], list(constants))
    return helper.make_model(graph)


LOOKUP = node("Gather", ["t", "ids"], ["y"])


@pytest.mark.parametrize(
    ("nodes", "constants", "bound"),
    [
        ([LOOKUP], [table("t", 50, 8)], 50),
        ([node("Gather", ["t", "ids"], ["y"], axis=-1)], [table("t", 50, 8)], 8),
        (
            [
                node("Unsqueeze", ["ids", "axes"], ["a"]),
                node("Cast", ["a"], ["b"], to=TensorProto.INT32),
                node("Reshape", ["b", "shape"], ["c"]),
                node("Gather", ["t", "c"], ["y"]),
            ],
            [table("t", 9, 8), table("axes", 1), table("shape", 1)],
            9,
        ),
        (
            [
                node("DequantizeLinear", ["t", "s"], ["d"]),
                node("Transpose", ["d"], ["e"]),
                node("Gather", ["e", "ids"], ["y"]),
            ],
            [table("t", 50, 8, dtype=np.int8), table("s")],
            8,
        ),
        (
            [node("Gather", ["t", "ids"], ["a"]), node("Gather", ["u", "ids"], ["y"])],
            [table("t", 50, 8), table("u", 20, 8)],
            20,
        ),
        (
            [node("OneHot", ["ids", "depth", "v"], ["y"])],
            [numpy_helper.from_array(np.array([6]), "depth"), table("v", 2)],
            6,
        ),
        (
            [node("EmbedLayerNormalization", ["ids", "", "t", "p"], ["y"], domain="com.microsoft")],
            [table("t", 33, 8), table("p", 5, 8)],
            33,
        ),
        ([node("Constant", [], ["t"], value=table("t", 4, 2)), LOOKUP], [], 4),
        (
            [
                node("Cast", ["bytes"], ["a"], to=FLOAT),
                node("Reshape", ["a", "shape"], ["b"]),
                node("Mul", ["b", "scale"], ["t"]),
                LOOKUP,
            ],
            [
                table("bytes", 60, dtype=np.uint8),
                numpy_helper.from_array(np.array([20, 3]), "shape"),
                table("scale", 20, 1),
            ],
            20,
        ),
        ([node("Gather", ["ids", "t"], ["y"])], [table("t", 1)], None),
        ([node("Add", ["ids", "t"], ["y"])], [table("t", 1)], None),
    ],
)  # fmt: skip
def test_bounds(nodes, constants, bound):
    found = index_bounds(model(nodes, *constants))
    assert found == ({} if bound is None else {"ids": bound})


def test_into_a_loop_within_a_branch():
    """The ids are carried by a Loop, whose body is the branch of an If, into a table outside."""
    body = helper.make_graph(
        [
            node("Gather", ["t", "carried"], ["row"]),
            node("Identity", ["on"], ["still"]),
            node("Identity", ["carried"], ["next"]),
        ],
        "body",
        [value("step", INT, []), value("on", TensorProto.BOOL, []), value("carried", INT, ["n"])],
        [
            value("still", TensorProto.BOOL, []),
            value("next", INT, ["n"]),
            value("row", FLOAT, None),
        ],
    )  # fmt: skip
    out = [value("rows", FLOAT, None)]
    loop = node("Loop", ["", "cond", "ids"], ["last", "rows"], body=body)
    yes = helper.make_graph([loop], "yes", [], out)
    lookup = node("Gather", ["u", "ids"], ["rows"])
    no = helper.make_graph([lookup], "no", [], out, [table("u", 40, 2)])
    choice = node("If", ["cond"], ["y"], then_branch=yes, else_branch=no)
    assert index_bounds(model([choice], table("t", 30, 2))) == {"ids": 30}


def test_out_of_a_branch():
    same = [node("Identity", ["ids"], ["z"])]
    branches = [helper.make_graph(same, name, [], [value("z", INT, ["n"])]) for name in "ab"]
    choice = node("If", ["cond"], ["a"], then_branch=branches[0], else_branch=branches[1])
    lookup = node("Gather", ["t", "a"], ["y"])
    assert index_bounds(model([choice, lookup], table("t", 7, 2))) == {"ids": 7}


def test_through_a_local_function():
    made = model([node("Look", ["t", "ids"], ["y"], domain="my")], table("t", 12, 2))
    made.functions.append(
        helper.make_function(
            "my", "Look", ["a", "b"], ["c"], [node("Gather", ["a", "b"], ["c"])],
            [helper.make_opsetid("", 21)],
        )
    )  # fmt: skip
    made.opset_import.append(helper.make_opsetid("my", 1))
    assert index_bounds(made) == {"ids": 12}
