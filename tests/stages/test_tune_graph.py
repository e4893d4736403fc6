"""`tune.graph`: the optimized graph is baked where that gains, and named where it is not."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from helpers import SmallContext, small_context, tagged_examples
from onnx import TensorProto, helper, numpy_helper
from small_encoders import write_encoder

from edgecompress.errors import StageError
from edgecompress.models.session import open_session
from edgecompress.models.storage import read_model, write_model
from edgecompress.quantization.graphs.baking import drop_zero_points, fold_biases
from edgecompress.quantization.graphs.fusion import operator_counts
from edgecompress.quantization.prove.proof import coverage
from edgecompress.stage import check_stage
from edgecompress.stages.export import Export
from edgecompress.stages.quantize.static import Static
from edgecompress.stages.tune import graph
from edgecompress.stages.tune.graph import Graph
from edgecompress.values import Candidate, Measurement, OnnxModel


@dataclass(frozen=True)
class ToldContext(SmallContext):
    """Says how many times as fast as the first each graph is, by its file's name."""

    ratios: dict = field(default_factory=dict)

    def time(self, candidates):
        ratios = [self.ratios.get(each.model.path.stem, 1.0) for each in candidates]
        return [
            (
                Measurement("latency_p50", 1 / r, "ms"),
                Measurement("speedup", r, "x", interval=(r - 0.01, r + 0.01)),
            )
            for r in ratios
        ]


def told(path, **ratios):
    plain = small_context(path, validation=tagged_examples(12))
    return ToldContext(**(vars(plain) | {"ratios": ratios}))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    encoder = write_encoder(folder, "Bert", "token-classification")
    return Export().apply(encoder, small_context(folder / "export"))


@pytest.fixture(scope="module")
def static(exported, tmp_path_factory):
    context = small_context(tmp_path_factory.mktemp("static"), train=tagged_examples(20))
    return Static(samples=8).apply(exported, context)


def even_starts(monkeypatch, *times):
    monkeypatch.setattr(graph, "start_times_ms", lambda models: [np.full(3, t) for t in times])


def test_an_int8_graph_is_baked_with_its_biases(static, tmp_path):
    made = check_stage(Graph(), static, told(tmp_path, baked=1.02, biases=1.1))
    step = made.steps[-1]
    assert step.decisions["chosen"] == "baked with biases"
    assert step.measured["variants"]["baked with biases"]["max_abs_difference"] < 1e-4
    nodes = onnx.load(made.model.path).graph.node
    biased = [n for n in nodes if n.op_type == "MatMulIntegerToFloat" and len(n.input) == 7]
    assert len(biased) >= 12
    assert "QuantizeLinear" in step.decisions["operators"]
    assert len(coverage(made.model).int8_linears) == len(coverage(static.model).int8_linears)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["model"]


def test_batch_and_length_stay_free_and_weights_unpacked(static, tmp_path):
    made = Graph(biases=False).apply(static, told(tmp_path, baked=1.1))
    assert made.steps[-1].decisions["chosen"] == "baked"
    session = open_session(made.model)
    for shape in ((1, 4), (3, 11)):
        feed = {each.name: np.ones(shape, np.int64) for each in session.get_inputs()}
        assert session.run(None, feed)[0].shape[:2] == shape
    names = {tensor.name for tensor in onnx.load(made.model.path).graph.initializer}
    assert any(name.endswith("_quantized") for name in names)
    not_baked = made.steps[-1].decisions["not_baked"]
    assert not_baked["optimizers"] == ["Avx2WeightS8ToU8Transformer"]
    assert not_baked["operators_of_level_all"] == {}


def test_of_graphs_as_fast_the_one_that_starts_sooner_is_kept(exported, tmp_path, monkeypatch):
    even_starts(monkeypatch, 10.0, 5.0)
    made = Graph().apply(exported, told(tmp_path / "a"))
    assert made.steps[-1].decisions["chosen"] == "baked"
    assert made.steps[-1].measured["variants"]["baked"]["start_p50_ms"] == 5.0
    even_starts(monkeypatch, 10.0, 9.8)
    made = Graph().apply(exported, told(tmp_path / "b"))
    assert made.steps[-1].decisions["chosen"] == "as it is"
    assert onnx.load(made.model.path) == onnx.load(exported.model.path)


def test_a_slower_graph_is_not_baked_for_its_start(exported, tmp_path, monkeypatch):
    even_starts(monkeypatch, 10.0, 5.0)
    made = Graph().apply(exported, told(tmp_path, baked=0.9))
    assert made.steps[-1].decisions["chosen"] == "as it is"


def test_a_graph_that_answers_otherwise_is_dropped(static, tmp_path):
    made = Graph(tolerance=1e-12, biases=False).apply(static, told(tmp_path / "x", baked=1.5))
    variants = made.steps[-1].measured["variants"]
    assert variants["baked"].get("outcome") == "differs by more than 1e-12" or (
        variants["baked"]["max_abs_difference"] == 0
    )


def test_starts_are_timed_for_each_model(exported):
    times = graph.start_times_ms([exported.model, exported.model])
    assert len(times) == 2 and all(len(each) == graph.STARTS and min(each) > 0 for each in times)


def test_a_record_is_replayed_without_timing(static, tmp_path):
    first = Graph().apply(static, told(tmp_path / "a", biases=1.2))
    recorded = first.steps[-1].decisions
    again = Graph().apply(static, small_context(tmp_path / "b"), recorded)
    assert again.model.path.read_bytes() == first.model.path.read_bytes()
    assert again.steps[-1].decisions == recorded
    with pytest.raises(StageError, match="chose 'baked with biases': this recipe does not make it"):
        Graph(biases=False).apply(static, small_context(tmp_path / "c"), recorded)


def product_model(path, follow):
    """Make one integer product, and behind it what `follow` (node makers) says."""
    weights = np.arange(12, dtype=np.int8).reshape(4, 3)
    numbers = {
        "w": weights,
        "xs": np.float32(0.1),
        "ws": np.full(3, 0.2, np.float32),
        "xz": np.uint8(3),
        "b": np.array([1, 2, 3], np.float32),
        "one": np.array([5], np.float32),
    }
    inputs = ["x", "w", "xs", "ws", "xz"]
    first = helper.make_node("MatMulIntegerToFloat", inputs, ["p"], domain="com.microsoft")
    spec = [
        helper.make_tensor_value_info("x", TensorProto.UINT8, ["s", 4]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["s", 3]),
    ]
    held = [numpy_helper.from_array(value, name) for name, value in numbers.items()]
    body = helper.make_graph([first, *follow], "g", spec[:1], spec[1:], held)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(body, opset_imports=opsets, ir_version=9), path)


@pytest.mark.parametrize(
    ("follow", "folded", "left"),
    [
        ([("Add", ["p", "b"], "")], 1, {}),
        ([("Add", ["b", "p"], "")], 1, {}),
        ([("BiasGelu", ["p", "b"], "com.microsoft")], 1, {"Gelu": 1}),
        ([("Add", ["p", "one"], "")], 0, {"Add": 1}),
        ([("Add", ["p", "p"], "")], 0, {"Add": 1}),
    ],
)
def test_biases_are_folded_where_they_are_biases(tmp_path, follow, folded, left):
    nodes = [helper.make_node(op, ins, ["y"], domain=domain) for op, ins, domain in follow]
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    product_model(before, nodes)
    stored = read_model(before)
    assert fold_biases(stored) == folded
    write_model(stored, after)
    counts = Counter(operator_counts(after)) - Counter(MatMulIntegerToFloat=1)
    assert counts == left
    feed = {"x": np.arange(8, dtype=np.uint8).reshape(2, 4)}
    first, second = (open_session(OnnxModel(p)).run(None, feed)[0] for p in (before, after))
    assert np.allclose(first, second, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_zero_points_of_weights_leave_where_all_are_zero(tmp_path, bias):
    before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
    product_model(before, [helper.make_node("Identity", ["p"], ["y"])])
    stored = read_model(before)
    node = stored.proto.graph.node[0]
    node.input.extend(["wz", *(["b"] if bias else [])])
    zeros = {"wz": np.zeros(3, np.int8), "other": np.array([0, 1, 0], np.int8)}
    stored.proto.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in zeros.items())
    write_model(stored, before)
    assert drop_zero_points(stored) == 1
    assert list(node.input) == ["x", "w", "xs", "ws", "xz", *(["", "b"] if bias else [])]
    assert "wz" not in {tensor.name for tensor in stored.proto.graph.initializer}
    write_model(stored, after)
    feed = {"x": np.arange(8, dtype=np.uint8).reshape(2, 4)}
    first, second = (open_session(OnnxModel(p)).run(None, feed)[0] for p in (before, after))
    assert np.array_equal(first, second)

    stored = read_model(before)
    stored.proto.graph.node[0].input[5] = "other"
    assert drop_zero_points(stored) == 0


def test_a_model_without_data_is_baked_too(tmp_path):
    product_model(tmp_path / "m.onnx", [helper.make_node("Add", ["p", "b"], ["y"])])
    baked = Graph().apply(Candidate(OnnxModel(tmp_path / "m.onnx")), told(tmp_path / "run"))
    feed = {"x": np.arange(8, dtype=np.uint8).reshape(2, 4)}
    first, second = (
        open_session(model).run(None, feed)[0]
        for model in (OnnxModel(tmp_path / "m.onnx"), baked.model)
    )
    assert np.allclose(first, second, atol=1e-6)
