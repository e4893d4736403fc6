"""`quantize.weights`: 4-bit tables and layers that run, and that mix with int8 layers."""

import numpy as np
import onnx
import pytest
from helpers import small_context, tagged_examples
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError
from small_encoders import relative_error, torch_logits, write_encoder

import edgecompress.quantization.write.gptq as gptq
from edgecompress.errors import StageError
from edgecompress.models.session import input_specs, open_session
from edgecompress.quantization.arithmetic.blocks import dequantize_blocks, quantize_blocks
from edgecompress.quantization.arithmetic.lines import quantize_lines
from edgecompress.quantization.prove.proof import coverage
from edgecompress.stage import check_stage
from edgecompress.stages.export import Export
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.stages.quantize.static import Static
from edgecompress.stages.quantize.weights import Weights
from edgecompress.values import Candidate, OnnxModel


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    return write_encoder(folder, "Bert", "token-classification", uneven=True)


@pytest.fixture(scope="module")
def exported(encoder, tmp_path_factory):
    return Export().apply(encoder, small_context(tmp_path_factory.mktemp("export")))


def distance(made, encoder):
    session = open_session(made.model)
    names = tuple(spec.name for spec in input_specs(session))
    expected, feeds = torch_logits(encoder, tagged_examples(20, seed=3), names)
    return relative_error(expected, [session.run(None, feed)[0] for feed in feeds])


def operators(made):
    return coverage(made.model).operators


def tables(made):
    return [part.dtype for part in coverage(made.model).int8_embeddings]


def test_all_weights_in_four_bits(exported, encoder, tmp_path):
    made = check_stage(Weights(), exported, small_context(tmp_path))
    found = operators(made)
    exceptions = made.steps[-1].decisions["exceptions"].values()
    refused = [reason for reason in exceptions if reason.endswith("no multiple of 16")]
    assert found["MatMulNBits"] + len(refused) == 2 * 6 + 1 and len(refused) < 6
    assert tables(made) == ["int4"] * 3
    assert distance(made, encoder) < 0.5
    finer = Weights(linear_bits=8, embedding_bits=8).apply(exported, small_context(tmp_path / "8"))
    assert distance(finer, encoder) < distance(made, encoder) / 4
    sizes = [c.model.path.stat().st_size for c in (made, finer, exported)]
    assert sizes == sorted(sizes)


def test_layers_that_read_one_tensor_share_its_sums(exported, encoder, tmp_path):
    def made(name, **fields):
        stage = Weights(embeddings=False, linear_block=16, compute="fp32", **fields)
        return check_stage(stage, exported, small_context(tmp_path / name))

    plain, offsets = made("plain"), made("offsets", offsets=True)
    assert distance(offsets, encoder) < 0.2
    decided = [each.steps[-1].decisions for each in (plain, offsets)]
    assert decided[0]["exceptions"] == decided[1]["exceptions"]
    run = operators(offsets)
    layers = run["MatMulNBits"]
    names = [node.name for node in onnx.load(offsets.model.path).graph.node]
    assert layers < sum(name.endswith("/of_offsets") for name in names) < 2 * layers
    # What is made of constants alone is made once.
    assert not {"Exp", "Cast", "Transpose"} & (run.keys() - operators(plain).keys())
    # A graph that has offsets already takes more of them.
    names = [node.name for node in onnx.load(exported.model.path).graph.node]
    half = tuple(name for name in names if name.endswith("MatMul") and "encoder" in name)
    stage = Weights(embeddings=False, linear_block=16, compute="fp32", offsets=True)
    first = stage.model_copy(update={"exclude": half}).apply(
        exported, small_context(tmp_path / "1")
    )
    second = stage.apply(first, small_context(tmp_path / "2"))
    assert operators(second)["MatMulNBits"] == layers > operators(first)["MatMulNBits"]
    assert distance(second, encoder) == pytest.approx(distance(offsets, encoder), rel=1e-3)


def test_products_with_offsets_are_those_of_the_dequantized_weight(tmp_path):
    random = np.random.default_rng(1)
    weight = random.standard_normal((512, 512)).astype(np.float32) + np.float32(0.5)
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "layer")
    graph = helper.make_graph(
        [node],
        "one layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "length", 512])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "length", 512])],
        [numpy_helper.from_array(weight, "w")],
    )
    path = tmp_path / "layer.onnx"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    plain, made = (
        Weights(offsets=offsets, compute="fp32").apply(
            Candidate(OnnxModel(path)), small_context(tmp_path / str(offsets))
        )
        for offsets in (False, True)
    )
    assert made.model.path.stat().st_size < plain.model.path.stat().st_size
    x = random.standard_normal((2, 5, 512)).astype(np.float32) + np.float32(0.5)
    found = open_session(made.model).run(None, {"x": x})[0]
    rows = np.ascontiguousarray(weight.T)
    expected, without = (
        x @ dequantize_blocks(one).T
        for one in (quantize_lines(rows, 4, 32), quantize_blocks(rows, 4, 32))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-2)
    assert np.abs(found - x @ weight).mean() < 0.8 * np.abs(without - x @ weight).mean()


def test_searched_scales_are_nearer_than_round_to_nearest(exported, tmp_path):
    def table_error(method):
        made = Weights(linears=False, method=method).apply(
            exported, small_context(tmp_path / method)
        )
        session, original = open_session(made.model), open_session(exported.model)
        specs = input_specs(session)
        ids = np.arange(8)[None]
        feed = {s.name: ids if s.name == "input_ids" else np.ones_like(ids) for s in specs}
        return np.abs(session.run(None, feed)[0] - original.run(None, feed)[0]).mean()

    assert table_error("search") != table_error("nearest")


@pytest.mark.parametrize("stage", [Dynamic, Static])
def test_a_table_of_four_bits_beside_layers_of_int8(stage, exported, encoder, tmp_path):
    four = stage(embedding_bits=4, embedding_block=16)
    data = {"train": tagged_examples(10)}
    four = stage(embedding_bits=4, embedding_block=16)
    made = check_stage(four, exported, small_context(tmp_path / "four", **data))
    eight = stage().apply(exported, small_context(tmp_path / "eight", **data))
    found = operators(made)
    assert tables(made) == ["int4"] * 3
    assert len(made.steps[-1].decisions["int8_linears"]) == 2 * 6 + 1
    assert made.model.path.stat().st_size < eight.model.path.stat().st_size
    assert distance(made, encoder) < 0.3
    # The same in two stages.
    first = Weights(linears=False, embedding_block=16).apply(
        exported, small_context(tmp_path / "first")
    )
    assert first.steps[-1].decisions["exceptions"]["/classifier/MatMul"].startswith("linear layers")
    second = stage().apply(first, small_context(tmp_path / "second", **data))
    assert operators(second) == found


def test_gptq_is_nearer_than_searched_scales(exported, encoder, tmp_path):
    def made(method, name, **fields):
        context = small_context(tmp_path / name, train=tagged_examples(40))
        stage = Weights(embeddings=False, method=method, linear_block=16, **fields)
        return check_stage(stage, exported, context), context

    search, _ = made("search", "search")
    best, context = made("gptq", "gptq")
    assert distance(best, encoder) < distance(search, encoder) * 0.8
    assert operators(best) == operators(search)
    assert best.model.path.stat().st_size == search.model.path.stat().st_size
    decided = best.steps[-1].decisions
    assert decided["calibrated_on"] == 40 and len(decided["gptq"]) == operators(best)["MatMulNBits"]
    assert not (tmp_path / "gptq" / "scratch" / "observed").exists()
    assert (40, 40, "inputs of layers") in context.said
    total = len(decided["gptq"])
    again, _ = made("gptq", "again")
    assert again.model.path.read_bytes() == best.model.path.read_bytes()
    fewer, _ = made("gptq", "fewer", samples=5, exclude=("/classifier/MatMul",))
    decided = fewer.steps[-1].decisions
    assert decided["calibrated_on"] == 5 and len(decided["gptq"]) == total - 1


def test_several_passes_give_what_one_gives(exported, tmp_path, monkeypatch):
    stage = Weights(method="gptq", linear_block=16)
    data = {"train": tagged_examples(10)}
    one = stage.apply(exported, small_context(tmp_path / "one", **data))
    monkeypatch.setattr(gptq, "MOST_HESSIAN_BYTES", 4 * 32 * 32)
    context = small_context(tmp_path / "many", **data)
    many = stage.apply(exported, context)
    assert many.model.path.read_bytes() == one.model.path.read_bytes()
    assert len(context.said) > 2 * 10


def test_only_gptq_reads_examples(exported, tmp_path):
    assert Weights(method="gptq").reads_examples()
    assert not Weights().reads_examples() and not Weights(method="nearest").reads_examples()
    assert not Weights(method="gptq", inputs="x.npz").reads_examples()
    with pytest.raises(ValidationError, match="samples is for method: gptq only"):
        Weights(samples=8)
    with pytest.raises(ValidationError, match="gptq is for linear layers"):
        Weights(method="gptq", linears=False)
    with pytest.raises(StageError, match="there are none: give `data`"):
        Weights(method="gptq").apply(exported, small_context(tmp_path))


def test_nothing_to_do_is_refused():
    with pytest.raises(ValidationError, match="offsets are for linear_bits: 4"):
        Weights(offsets=True, linear_bits=8)
    with pytest.raises(ValidationError, match="nothing to do"):
        Weights(linears=False, embeddings=False)


def test_a_table_of_few_values_keeps_8_bits(tmp_path):
    random = np.random.default_rng(0)
    tables = {"words": (2000, 64), "types": (2, 64)}
    nodes = [helper.make_node("Gather", [name, "ids"], [f"{name}_rows"], name) for name in tables]
    nodes.append(helper.make_node("Add", [f"{name}_rows" for name in tables], ["y"], "sum"))
    graph = helper.make_graph(
        nodes,
        "two tables",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "length", 64])],
        [
            numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
            for name, shape in tables.items()
        ],
    )
    path = tmp_path / "tables.onnx"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    made = Weights(linears=False).apply(Candidate(OnnxModel(path)), small_context(tmp_path / "c"))
    decisions = made.steps[-1].decisions
    assert decisions["stored_in_4_bits"] == ["words"]
    assert set(decisions["int8_embeddings"]) == {"words", "types"}
