"""Sensitivity: rounding a part alone is what quantizing it alone does; the culprit is first."""

import json

import numpy as np
import onnx
import pytest
from helpers import tagged_examples
from onnx import TensorProto, helper, numpy_helper
from planted import CULPRIT, planted_encoder

from edgecompress.errors import StageError
from edgecompress.models.graph import signature
from edgecompress.models.inputs import encode_rows, typed_feed
from edgecompress.models.outputs import ComparedSamples, OutputJudge
from edgecompress.models.session import open_session
from edgecompress.models.storage import read_model, write_model
from edgecompress.quantization.plan.scheme import Scheme
from edgecompress.quantization.search.mixed import starting_point, write_mixed
from edgecompress.quantization.search.sensitivity import blame, culprits, measure, whole_layers
from edgecompress.quantization.search.switched import Switched
from edgecompress.quantization.search.units import find_units
from edgecompress.quantization.write.writer import rewrite
from edgecompress.values import OnnxModel


@pytest.fixture(scope="module")
def planted():
    return planted_encoder()


@pytest.fixture(scope="module")
def samples(planted):
    examples = tagged_examples(12, seed=4)
    rows = encode_rows(planted, examples)
    specs = signature(planted.model)
    feeds = tuple(typed_feed(rows, [row], specs) for row in range(len(rows.lengths)))
    return ComparedSamples(feeds, rows, examples, planted.labels)


@pytest.fixture(scope="module")
def measured(planted, samples, tmp_path_factory):
    return measure(planted.model, samples, Scheme(), tmp_path_factory.mktemp("sensitivity"))


def test_the_culprit_is_named_first_and_alone(measured):
    items, facts = measured
    whole = sorted(whole_layers(items), key=lambda item: -item.cost.error)
    assert whole[0].layer == CULPRIT
    assert [item.layer for item in culprits(items)] == [CULPRIT]
    assert blame(whole[0], items) == "input"
    assert facts == {"metric": "f1", "reference": facts["reference"], "samples": 12}


def test_all_layers_and_tensors_are_measured(measured):
    items, _ = measured
    count = {what: sum(item.what == what for item in items) for what in ("both", "weight")}
    assert count == {"both": 2 * 6 + 1, "weight": 2 * 6 + 1}
    # query, key and value share their input
    assert sum(item.what == "activation" for item in items) == 2 * 4 + 1
    tables = [item for item in items if item.kind == "table"]
    assert {item.what for item in tables} == {"int8", "int4"} and len(tables) == 6
    for eight, four in zip(tables[::2], tables[1::2], strict=True):
        assert four.cost.error > eight.cost.error > 0
        assert four.saves_bytes > eight.saves_bytes > 0


@pytest.mark.parametrize("ranges", [None, (-1.0, 1.0)])
def test_rounding_is_what_the_quantizer_does(planted, samples, ranges, tmp_path):
    """One layer alone: the switched model and the rewritten one give the same outputs."""
    units = find_units(read_model(planted.model.path))
    given = None
    if ranges:
        given = {name: ranges for unit in units for name in unit.inputs}
    scheme = Scheme(ranges=given)
    switched = Switched(planted.model, tmp_path, scheme)
    for unit in [units[0], units[4], units[-1]]:
        others = frozenset(node for other in units if other != unit for node in other.nodes)
        stored, _ = rewrite(read_model(planted.model.path), Scheme(ranges=given, exclude=others))
        path = tmp_path / "alone.onnx"
        write_model(stored, path)
        session = open_session(OnnxModel(path))
        extra = switched.feed_of([unit])
        for feed in samples.feeds[:3]:
            plain = switched.run(feed, {})[0]
            expected, found = session.run(None, feed)[0], switched.run(feed, extra)[0]
            assert np.abs(found - plain).max() > 1e-6  # it is rounded
            np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(plain).max())


@pytest.mark.parametrize("uneven", [False, True], ids=["tied", "unlike rows"])
@pytest.mark.parametrize("ranges", [None, {"rows": (-60.0, 60.0)}])
def test_a_table_is_rounded_as_it_is_stored(tmp_path, uneven, ranges):
    """A tied one with the layer's scale for each row, and one of very unlike rows with its own."""
    nodes = [helper.make_node("Gather", ["table", "ids"], ["rows"], "embed")]
    if uneven:
        nodes.append(helper.make_node("MatMul", ["rows", "square"], ["y"], "layer"))
    else:
        nodes.append(helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]))
        nodes.append(helper.make_node("MatMul", ["rows", "turned"], ["y"], "layer"))
    random = np.random.default_rng(1)
    sizes = np.logspace(-3, 1, 30, dtype=np.float32)[:, None]
    weights = {"table": random.standard_normal((30, 8), np.float32) * sizes}
    weights |= {"square": random.standard_normal((8, 8), np.float32)} if uneven else {}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "width"])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = OnnxModel(tmp_path / "m.onnx")
    opsets = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), model.path)
    scheme = Scheme(ranges=ranges)
    switched = Switched(model, tmp_path / "switched", scheme)
    write_model(rewrite(read_model(model.path), scheme)[0], tmp_path / "q.onnx")
    feed = {"ids": np.arange(30)}
    plain = switched.run(feed, {})[0]
    expected = open_session(OnnxModel(tmp_path / "q.onnx")).run(None, feed)[0]
    found = switched.run(feed, switched.feed_of(switched.units))[0]
    least = np.abs(plain).max(axis=1, keepdims=True)  # rows differ by four orders of magnitude
    assert (np.abs(found - expected) <= 1e-4 * least + 1e-6 * least.max()).all()
    assert np.abs(found - plain).max() > 1e-3


def test_a_pass_goes_on_where_it_was(planted, samples, tmp_path):
    said = []

    def twice():
        return len(said) > 3

    some, _ = measure(
        planted.model, samples, Scheme(), tmp_path, parts=("both",), ended=twice,
        progress=lambda done, total, what: said.append(what),
    )  # fmt: skip
    assert len(some) == 3
    file = sorted(tmp_path.glob("*-both.json"))[0]
    document = json.loads(file.read_text())
    document["cost"]["error"] = 0.125  # shows that it is read
    file.write_text(json.dumps(document))
    sorted(tmp_path.glob("*-both.json"))[1].write_text("{")  # cut off
    items, _ = measure(planted.model, samples, Scheme(), tmp_path, parts=("both",))
    assert items[0].cost.error == 0.125 and items[1:3] == some[1:3] and len(items) == 13


def test_what_cannot_be_measured_is_refused_in_words(planted, samples, tmp_path):
    with pytest.raises(
        StageError, match="no layer or weight named /clasifier/MatMul; did you mean"
    ):
        measure(planted.model, samples, Scheme(), tmp_path, only=["/clasifier/MatMul"])
    stored, _ = rewrite(read_model(planted.model.path), Scheme())
    write_model(stored, tmp_path / "int8.onnx")
    with pytest.raises(StageError, match=r"int8\.onnx is quantized already"):
        measure(OnnxModel(tmp_path / "int8.onnx"), samples, Scheme(), tmp_path)


def test_a_mixed_model_holds_both_forms(planted, samples, tmp_path):
    """Static query beside dynamic key: they share their input, and the model still answers."""
    units = find_units(read_model(planted.model.path))
    linears = [unit for unit in units if not unit.is_table]
    ranges = {name: (-6.0, 6.0) for unit in linears for name in unit.inputs}
    chosen = starting_point(units, "dynamic").put([linears[0].name], "static")
    tables = [unit.name for unit in units if unit.is_table]
    chosen = chosen.put([CULPRIT], "fp32").put(tables[:1], "int4")
    model, found = write_mixed(planted.model, chosen, Scheme(), ranges, tmp_path / "m.onnx")
    assert [part.name for part in found.fp32_linears] == [CULPRIT]
    assert [part.dtype for part in found.int8_embeddings].count("int4") == 1
    judges = OutputJudge(samples, lambda feed: open_session(planted.model).run(None, feed))
    session = open_session(model)
    assert judges.cost(lambda feed: session.run(None, feed)).error < 0.2


def test_costs_are_zero_for_the_same_and_one_for_the_mean(samples, planted):
    session = open_session(planted.model)
    judge = OutputJudge(samples, lambda feed: session.run(None, feed))
    same = judge.cost(lambda feed: session.run(None, feed))
    assert (same.error, same.kl, same.drop) == (0.0, 0.0, 0.0)
    mean = np.concatenate([one[0].ravel() for one in judge.expected]).mean()
    flat = judge.cost(lambda feed: [np.full_like(session.run(None, feed)[0], mean)])
    assert flat.error == pytest.approx(1.0, rel=1e-5) and flat.kl > 0
