"""A plan survives its JSON, and one walk writes layers of every form side by side."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecompress.errors import StageError
from edgecompress.models.session import open_session
from edgecompress.models.storage import read_model, write_model
from edgecompress.quantization.plan.checks import linear_inputs
from edgecompress.quantization.plan.planning import plan_of
from edgecompress.quantization.plan.quant_plan import QuantPlan
from edgecompress.quantization.plan.scheme import Scheme
from edgecompress.quantization.prove.proof import coverage
from edgecompress.quantization.search.mixed import write_mixed
from edgecompress.quantization.search.units import Assignment
from edgecompress.quantization.write.writer import write_plan
from edgecompress.values import OnnxModel

WIDTH, PIECES, FILTERS = 32, 40, 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    """Look rows up, multiply them twice, and score them with the table again; and convolve."""
    random = np.random.default_rng(0)
    weights = {
        "table": random.standard_normal((PIECES, WIDTH)),
        "left": random.standard_normal((WIDTH, WIDTH)) / 8,
        "right": random.standard_normal((WIDTH, WIDTH)) / 8,
        "filters": random.standard_normal((FILTERS, 1, 3)),
    }
    make, value = helper.make_node, helper.make_tensor_value_info
    nodes = [
        make("Gather", ["table", "ids"], ["rows"], "look_up"),
        make("MatMul", ["rows", "left"], ["one"], "first"),
        make("MatMul", ["rows", "right"], ["two"], "second"),
        make("Add", ["one", "two"], ["sum"], "add"),
        make("Transpose", ["table"], ["turned"], "turn", perm=[1, 0]),
        make("MatMul", ["sum", "turned"], ["logits"], "score"),
        make("Conv", ["sound", "filters"], ["heard"], "conv"),
    ]
    graph = helper.make_graph(
        nodes,
        "mixed",
        [
            value("ids", TensorProto.INT64, ["batch", "length"]),
            value("sound", TensorProto.FLOAT, ["batch", 1, 20]),
        ],
        [
            value("logits", TensorProto.FLOAT, ["batch", "length", PIECES]),
            value("heard", TensorProto.FLOAT, ["batch", FILTERS, 18]),
        ],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    path = tmp_path_factory.mktemp("plan") / "model.onnx"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return OnnxModel(path)


@pytest.fixture(scope="module")
def ranges(model: OnnxModel) -> dict[str, tuple[float, float]]:
    names = linear_inputs(read_model(model.path))
    return dict.fromkeys((*names, "heard"), (-6.0, 6.0))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"per_channel": False, "embedding_bits": 4},
        {"static": True},
        {"static": True, "signed_activations": True, "share": False},
        {"linears": "blocks", "embedding_bits": 4, "linear_bits": 8},
        {"exclude": frozenset({"first"}), "reduce_range": True},
    ],
)
def test_a_plan_that_was_recorded_writes_the_same_bytes(model, ranges, tmp_path, fields):
    given = {name: value for name, value in fields.items() if name != "static"}
    scheme = Scheme(**given, ranges=ranges if "static" in fields else None)
    files = [tmp_path / name for name in ("planned.onnx", "replayed.onnx")]
    stored = read_model(model.path)
    plan = plan_of(stored, scheme)
    assert set(plan.layers) | set(plan.left) == {"look_up", "first", "second", "score", "conv"}
    write_model(write_plan(stored, plan), files[0])
    recorded = QuantPlan.from_json(json.loads(json.dumps(plan.to_json())))
    stored = read_model(model.path)
    plan_of(stored, Scheme(linears="off", embeddings=False))  # what planning does to a graph
    write_model(write_plan(stored, recorded), files[1])
    assert files[0].read_bytes() == files[1].read_bytes()


def test_layers_of_every_form_stand_side_by_side(model, ranges, tmp_path):
    forms = {"first": "dynamic", "second": "static", "look_up": "static", "score": "static"}
    target = tmp_path / "mixed" / "model.onnx"
    made, found = write_mixed(model, Assignment(forms), Scheme(), ranges, target)
    assert found is not None
    assert {part.name.partition("_")[0] for part in found.int8_linears} == {
        *("first", "second", "score", "conv")
    }
    graph = onnx.load(made.path).graph
    readers = [n.op_type for n in graph.node if n.input[0] == "rows"]
    assert sorted(readers) == ["DynamicQuantizeLinear", "QuantizeLinear"]  # one tensor, both ways
    random = np.random.default_rng(1)
    feed = {
        "ids": random.integers(0, PIECES, (2, 5)),
        "sound": random.standard_normal((2, 1, 20)).astype(np.float32),
    }
    for x, y in zip(*(open_session(one).run(None, feed) for one in (model, made)), strict=True):
        assert np.abs(x - y).mean() < 0.05 * x.std()
    assert len(coverage(made).int8_embeddings) == 1


def test_what_is_no_plan_is_refused():
    for document in ({}, {"layers": []}, {"layers": {"a": {"kernel": "qdq", "odd": 1}}}, None):
        with pytest.raises(StageError, match="no plan"):
            QuantPlan.from_json(document)
