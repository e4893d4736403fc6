"""The rewritten graph is ONNX Runtime's own quantized graph, bit for bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers import small_context
from onnx import TensorProto, helper, numpy_helper
from small_encoders import write_encoder

from edgecompress.errors import StageError
from edgecompress.models.fitting import row_of
from edgecompress.models.session import input_specs, open_session
from edgecompress.models.sizes import SizePlan
from edgecompress.models.storage import read_model, write_model
from edgecompress.quantization.graphs.fusion import fuse
from edgecompress.quantization.plan.checks import check_excluded
from edgecompress.quantization.plan.scheme import Scheme
from edgecompress.quantization.prove.proof import coverage
from edgecompress.quantization.prove.proven import missed_weights
from edgecompress.quantization.write.writer import rewrite
from edgecompress.stages.export import Export
from edgecompress.values import Feed, OnnxModel, SessionSettings

AS_WRITTEN = SessionSettings("disable")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    candidate = write_encoder(folder, "Bert", "token-classification", uneven=True)
    made = Export().apply(candidate, small_context(folder / "export")).model
    assert isinstance(made, OnnxModel)
    return made.path


def padded_feed(model: OnnxModel) -> Feed:
    specs = input_specs(open_session(model))
    feed = row_of(specs, {"input_ids": (0, 20)}, SizePlan(3, 9))
    feed["attention_mask"][1, 5:] = 0
    return feed


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(
    "fusions", [(), ("attention",), ("attention", "embed_layer_norm"), ("multi_head_attention",)]
)
def test_dynamic_is_what_onnxruntime_makes(
    exported: Path, tmp_path: Path, fusions: tuple[str, ...], per_channel: bool
) -> None:
    from onnxruntime.quantization import quantize_dynamic

    source = tmp_path / "fused.onnx"
    fuse(exported, fusions, "bert", source)
    stored, reasons = rewrite(read_model(source), Scheme(per_channel=per_channel))
    write_model(stored, tmp_path / "ours.onnx")
    quantize_dynamic(
        source,
        tmp_path / "theirs.onnx",
        per_channel=per_channel,
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )
    assert reasons == {}
    ours = {t.name: t for t in onnx.load(tmp_path / "ours.onnx").graph.initializer}
    theirs = {t.name: t for t in onnx.load(tmp_path / "theirs.onnx").graph.initializer}
    integers = {TensorProto.INT8, TensorProto.UINT8}
    names = {name for name, tensor in theirs.items() if tensor.data_type in integers}
    assert names and names <= set(ours)
    for name in names | {name for name in theirs if name.endswith("_scale")}:
        expected, found = (numpy_helper.to_array(each[name]) for each in (theirs, ours))
        assert np.array_equal(expected, found), name
    models = [OnnxModel(tmp_path / f"{name}.onnx", AS_WRITTEN) for name in ("ours", "theirs")]
    feed = padded_feed(models[0])
    first, second = (open_session(model).run(None, feed)[0] for model in models)
    assert np.array_equal(first, second)


def test_every_head_count_keeps_its_integer_kernel(exported: Path, tmp_path: Path) -> None:
    source = tmp_path / "fused.onnx"
    fuse(exported, ("attention",), "bert", source)
    stored, _ = rewrite(read_model(source), Scheme())
    write_model(stored, tmp_path / "q.onnx")
    found = coverage(OnnxModel(tmp_path / "q.onnx"))
    assert found.operators["QAttention"] == 2
    assert not found.fp32_linears and not found.fp32_embeddings
    heads = [
        attribute.i
        for node in stored.proto.graph.node
        for attribute in node.attribute
        if attribute.name == "num_heads"
    ]
    assert heads == [3, 1]


def linear_model(path: Path, nodes: list[onnx.NodeProto], opset: int = 18) -> OnnxModel:
    random = np.random.default_rng(0)
    weights = {
        "table": random.standard_normal((30, 8)),
        "square": random.standard_normal((8, 8)),
        "bias": random.standard_normal(8),
    }
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "width"])],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
    return OnnxModel(path)


LOOK_UP = helper.make_node("Gather", ["table", "ids"], ["rows"], "embed")


@pytest.mark.parametrize("ranges", [None, {"rows": (-3.5, 3.5)}])
@pytest.mark.parametrize(
    "nodes",
    [
        [
            helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]),
            helper.make_node("MatMul", ["rows", "turned"], ["y"], "tied"),
        ],
        [helper.make_node("Gemm", ["rows", "square", "bias"], ["y"], "gemm", transB=1)],
        [helper.make_node("Gemm", ["rows", "square"], ["y"], "gemm")],
        [helper.make_node("MatMul", ["rows", "square"], ["y"])],
    ],
    ids=["tied to the embedding", "gemm", "gemm without bias", "nameless"],
)
def test_other_forms_of_a_linear_layer(
    tmp_path: Path, nodes: list[onnx.NodeProto], ranges: dict[str, tuple[float, float]] | None
) -> None:
    model = linear_model(tmp_path / "m.onnx", [LOOK_UP, *nodes])
    stored, reasons = rewrite(read_model(model.path), Scheme(ranges=ranges))
    write_model(stored, tmp_path / "q.onnx")
    quantized = OnnxModel(tmp_path / "q.onnx")
    onnx.checker.check_model(str(quantized.path))
    found = coverage(quantized)
    assert not reasons and len(found.int8_linears) == len(found.int8_embeddings) == 1
    assert not found.fp32_linears and not found.fp32_embeddings
    feed = {"ids": np.arange(30)}
    expected, given = (open_session(each).run(None, feed)[0] for each in (model, quantized))
    assert np.abs(expected - given).mean() < 0.05 * expected.std()


TIED = [
    helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]),
    helper.make_node("MatMul", ["rows", "turned"], ["y"], "tied"),
]


@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("ranges", [None, {"rows": (-3.5, 3.5)}])
def test_a_tied_table_is_stored_once(
    tmp_path: Path, ranges: dict[str, tuple[float, float]] | None, per_channel: bool, opset: int
) -> None:
    opset = opset if ranges is None else max(opset, 13)
    model = linear_model(tmp_path / "m.onnx", [LOOK_UP, *TIED], opset)
    exact = open_session(model).run(None, {"ids": np.arange(30)})[0]
    found = {}
    for symmetric in (True, False):
        scheme = Scheme(ranges=ranges, per_channel=per_channel, symmetric_weights=symmetric)
        stored, reasons = rewrite(read_model(model.path), scheme)
        assert not reasons
        quantized = OnnxModel(tmp_path / f"{symmetric}.onnx")
        write_model(stored, quantized.path)
        onnx.checker.check_model(str(quantized.path))
        stored_bytes = {TensorProto.INT8, TensorProto.UINT8}
        found[symmetric] = [
            tuple(tensor.dims)
            for tensor in stored.proto.graph.initializer
            if tensor.data_type in stored_bytes and len(tensor.dims) == 2
        ]
        ran = coverage(quantized)
        assert len(ran.int8_linears) == len(ran.int8_embeddings) == 1
        assert not ran.fp32_linears and not ran.fp32_embeddings
        given = open_session(quantized).run(None, {"ids": np.arange(30)})[0]
        assert np.abs(exact - given).mean() < 0.05 * exact.std()
    assert found[True] == [(30, 8)]
    # With a zero point for each row, what is looked up has a form of its own.
    assert sorted(found[False]) == [(8, 30), (30, 8)]


def test_a_tied_table_of_which_one_half_is_excluded_is_not_shared(tmp_path: Path) -> None:
    model = linear_model(tmp_path / "m.onnx", [LOOK_UP, *TIED])
    scheme = Scheme(exclude=frozenset({"tied"}))
    stored, reasons = rewrite(read_model(model.path), scheme)
    assert set(reasons) == {"tied"}
    names = {tensor.name for tensor in stored.proto.graph.initializer}
    assert {"table", "table_quantized"} <= names and "table_quantized_rows" not in names


@pytest.mark.parametrize("name", ["square", "square_transposed", "square_linear"])
def test_a_linear_layer_that_onnxruntime_would_merge_is_written_otherwise(
    name: str, tmp_path: Path
) -> None:
    """Whatever its weight is called: exporters use the endings that the writer does."""
    nodes = [
        helper.make_node("MatMul", ["rows", name], ["product"], "product"),
        helper.make_node("Add", ["product", "bias"], ["y"], "sum"),
    ]
    model = linear_model(tmp_path / "m.onnx", [LOOK_UP, *nodes])
    stored = read_model(model.path)
    next(t for t in stored.proto.graph.initializer if t.name == "square").name = name
    write_model(stored, model.path)
    scheme = Scheme(ranges={"rows": (-3.5, 3.5)})
    write_model(rewrite(read_model(model.path), scheme)[0], tmp_path / "q.onnx")
    missed = missed_weights(coverage(OnnxModel(tmp_path / "q.onnx")))
    assert name in missed
    again = replace(scheme, as_integers=missed)
    write_model(rewrite(read_model(model.path), again)[0], tmp_path / "q.onnx")
    found = coverage(OnnxModel(tmp_path / "q.onnx"))
    assert len(found.int8_linears) == 1 and not found.fp32_linears


def test_what_stays_fp32_has_a_reason(tmp_path: Path) -> None:
    gemm = helper.make_node("Gemm", ["rows", "square", "bias"], ["y"], "scaled", alpha=0.5)
    model = linear_model(tmp_path / "m.onnx", [LOOK_UP, gemm])
    stored, reasons = rewrite(read_model(model.path), Scheme(exclude=frozenset({"table"})))
    write_model(stored, tmp_path / "q.onnx")
    assert reasons["embed"] == "excluded by the recipe"
    assert "alpha" in reasons["scaled"]
    decided = coverage(OnnxModel(tmp_path / "q.onnx")).to_json(reasons)
    assert decided["exceptions"] == reasons


def test_mistakes_are_named(tmp_path: Path) -> None:
    product = helper.make_node("MatMul", ["rows", "square"], ["y"], "product")
    model = linear_model(tmp_path / "m.onnx", [LOOK_UP, product])
    with pytest.raises(StageError, match="no layer or weight named prodct; did you mean 'product'"):
        check_excluded(read_model(model.path), ["prodct"])
    with pytest.raises(StageError, match="no activation range was measured for rows"):
        rewrite(read_model(model.path), Scheme(ranges={}))
    old = linear_model(tmp_path / "old.onnx", [LOOK_UP, product], opset=10)
    with pytest.raises(StageError, match="needs opset 11 or newer, and this model has 10"):
        rewrite(read_model(old.path), Scheme())
