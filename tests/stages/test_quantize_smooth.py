"""`quantize.smooth`: fp32 answers stay, int8 answers come nearer, what it decided is replayed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers import small_context, tagged_examples
from onnx import numpy_helper
from pydantic import ValidationError
from small_encoders import relative_error, torch_logits, write_encoder

from edgecompress.engine.chains import Given, check_order, expand
from edgecompress.errors import RecipeError, StageError
from edgecompress.models.session import input_specs, open_session
from edgecompress.quantization.graphs.fusion import SEQUENCE_FIRST, fuse
from edgecompress.quantization.prove.proof import coverage
from edgecompress.stage import check_stage
from edgecompress.stages.export import Export
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.stages.quantize.smooth import Smooth
from edgecompress.stages.quantize.static import Static
from edgecompress.values import Candidate, OnnxModel
from edgecompress.yamlfile import YamlFile

LOUD = (3, 20)
"""Channels of the hidden states that are made 50 times as large."""


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A BERT whose normalizations have loud channels, as trained ones have."""
    import torch

    from edgecompress.surgery.model import load_module, save_module

    folder = tmp_path_factory.mktemp("encoder")
    made = write_encoder(folder, "Bert", "token-classification")
    module = load_module(made.model)
    with torch.no_grad():
        for name, values in module.named_parameters():
            if name.endswith("LayerNorm.weight"):
                values[list(LOUD)] = 50
            elif name.endswith(("query.weight", "key.weight", "value.weight")) or (
                name.endswith("intermediate.dense.weight") or name == "classifier.weight"
            ):
                values[:, list(LOUD)] /= 50
    model = save_module(module, folder / "loud")
    return Candidate(model, made.preprocessor, made.task, made.labels)


@pytest.fixture(scope="module")
def exported(encoder, tmp_path_factory):
    return Export().apply(encoder, small_context(tmp_path_factory.mktemp("export")))


def logits(candidate, encoder):
    session = open_session(candidate.model)
    names = tuple(spec.name for spec in input_specs(session))
    expected, feeds = torch_logits(encoder, tagged_examples(20, seed=3), names)
    return expected, [session.run(None, feed)[0] for feed in feeds]


def data():
    return {"train": tagged_examples(30)}


def test_fp32_answers_stay_and_int8_answers_come_nearer(exported, encoder, tmp_path):
    context = small_context(tmp_path / "m", **data())
    made = check_stage(Smooth(multiply=True), exported, context)
    decided = made.steps[-1].decisions
    assert made.steps[-1].measured["max_relative_difference"] < 1e-6
    assert decided["calibrated_on"] == 30 and decided["multiplied"]
    assert any(name.endswith("LayerNorm/LayerNormalization_output_0") for name in decided["folded"])
    # By force: entropy's ranges leave no answers before smoothing, and a layer would stay in fp32.
    for stage in (Static(), Static(method="entropy", force=True), Dynamic()):
        errors = {}
        for name, start in (("plain", exported), ("smooth", made)):
            folder = tmp_path / f"{stage.stage_name()}{getattr(stage, 'method', '')}{name}"
            quantized = stage.apply(start, small_context(folder, **data()))
            assert not coverage(quantized.model).fp32_linears
            errors[name] = relative_error(*logits(quantized, encoder))
        assert errors["smooth"] < errors["plain"] * 0.7, (stage, errors)


def test_without_multiply_no_node_is_added(exported, tmp_path):
    made = check_stage(Smooth(), exported, small_context(tmp_path, **data()))
    before, after = (onnx.load(c.model.path).graph.node for c in (exported, made))
    assert [node.op_type for node in before] == [node.op_type for node in after]
    decided = made.steps[-1].decisions
    assert decided["folded"] and not decided["multiplied"]
    assert any("reads its input, too" in reason for reason in decided["left"].values())


def none(*_):
    return None


@pytest.mark.parametrize(
    "fusion", ["attention", "multi_head_attention", "skip_layer_norm", SEQUENCE_FIRST, "apart"]
)
def test_fused_graphs_are_smoothed_too(exported, tmp_path, monkeypatch, fusion):
    if fusion == "apart":  # the same layout, with queries, keys and values in three products
        fusion = SEQUENCE_FIRST
        monkeypatch.setattr("edgecompress.quantization.graphs.layout._Layout._merged", none)
    path = tmp_path / "fused" / "model.onnx"
    fuse(exported.model.path, (fusion,), "bert", path)
    fused = Candidate(OnnxModel(path), exported.preprocessor, exported.task, exported.labels)
    made = check_stage(Smooth(alpha=0.5), fused, small_context(tmp_path, **data()))
    # The values of attention in both layers, and the last normalization.
    assert len(made.steps[-1].decisions["folded"]) == 3
    names = {tensor.name for tensor in onnx.load(made.model.path).graph.initializer}
    assert any(name.endswith("_smoothed") for name in names)


def test_the_same_bytes_again_and_the_record_is_followed(exported, tmp_path):
    made = [
        Smooth(multiply=True).apply(exported, small_context(tmp_path / name, **data()))
        for name in "ab"
    ]
    assert made[0].model.path.read_bytes() == made[1].model.path.read_bytes()
    recorded = made[0].steps[-1].decisions
    again = Smooth(multiply=True).apply(exported, small_context(tmp_path / "c", **data()), recorded)
    assert again.model.path.read_bytes() == made[0].model.path.read_bytes()
    assert again.steps[-1].decisions == recorded
    name = next(iter(recorded["alphas"]))
    other = {"alphas": {name: 0.4}}
    context = small_context(tmp_path / "d", **data())
    assert Smooth(multiply=True).apply(exported, context, other).steps[-1].decisions["alphas"] == {
        name: 0.4
    }
    for record, said in (({}, "no record"), ({"alphas": {"nowhere": 0.5}}, "rules out")):
        with pytest.raises(StageError, match=said):
            Smooth().apply(exported, small_context(tmp_path / said, **data()), record)


def test_another_alpha_takes_no_further_pass(exported, tmp_path):
    said = []
    for name, alpha in (("a", "auto"), ("b", 0.7)):
        context = replace(small_context(tmp_path / name, **data()), cache=tmp_path / "cache")
        context.cache.mkdir(exist_ok=True)
        Smooth(alpha=alpha).apply(exported, context)
        said.append(sum(what == "channels" for _, _, what in context.said))
    assert said == [30, 0]


def test_what_it_cannot_work_with_is_one_sentence(exported, tmp_path: Path):
    for alpha in (-0.1, 1.5, "best"):
        with pytest.raises(ValidationError):
            Smooth(alpha=alpha)
    with pytest.raises(ValidationError, match="leave it out beside a number"):
        Smooth(alpha=0.5, block=32)
    with pytest.raises(ValidationError, match="give one of them"):
        Smooth(calibration="quickstart", inputs="x.npz")
    with pytest.raises(StageError, match="there are none: give `data`"):
        Smooth().apply(exported, small_context(tmp_path / "a"))
    with pytest.raises(StageError, match="needs a task and a tokenizer"):
        Smooth().apply(Candidate(exported.model), small_context(tmp_path / "b", **data()))
    quantized = Dynamic().apply(exported, small_context(tmp_path / "c"))
    with pytest.raises(StageError, match="smooth the model before it is quantized"):
        Smooth().apply(quantized, small_context(tmp_path / "d", **data()))
    with pytest.raises(StageError, match="no layer or weight named nowhere"):
        Smooth(exclude=("nowhere",)).apply(exported, small_context(tmp_path / "e", **data()))


def test_an_activation_that_is_not_finite_is_named(exported, tmp_path):
    stored = onnx.load(exported.model.path)
    for tensor in stored.graph.initializer:
        if list(tensor.dims) == [32]:
            broken = numpy_helper.to_array(tensor).copy()
            broken[0] = np.nan
            tensor.CopyFrom(numpy_helper.from_array(broken, tensor.name))
    path = tmp_path / "broken" / "model.onnx"
    path.parent.mkdir()
    onnx.save(stored, path)
    broken = Candidate(OnnxModel(path), exported.preprocessor, exported.task, exported.labels)
    with pytest.raises(StageError, match=r"sample 1 makes the activation .* NaN or infinite"):
        Smooth().apply(broken, small_context(tmp_path / "f", **data()))


def test_files_of_inputs_serve_any_graph(exported, tmp_path):
    specs = input_specs(open_session(exported.model))
    ids = np.random.default_rng(0).integers(0, 8, (6, 9))
    arrays = {s.name: ids if s.name == "input_ids" else np.ones_like(ids) for s in specs}
    np.savez(tmp_path / "inputs.npz", **arrays)
    stage = Smooth(inputs=str(tmp_path / "inputs.npz"), alpha=0.5)
    assert not stage.reads_examples() and stage.identity()["inputs"] != stage.inputs
    made = check_stage(stage, Candidate(exported.model), small_context(tmp_path / "f"))
    assert made.steps[-1].decisions["calibrated_on"] == 6


def test_a_recipe_may_quantize_after_it_and_not_before():
    def check(*names):
        source = YamlFile({"stages": list(names)}, None, {})
        chain = expand(list(names), ("stages",), source)[0]
        given = Given(data=True, teacher=False)
        check_order(chain, OnnxModel, given, source, complete=True)

    check("quantize.smooth", "quantize.static")
    check({"quantize.weights": {"linears": False}}, "quantize.smooth", "quantize.dynamic")
    with pytest.raises(RecipeError, match=r"already quantized by quantize\.static"):
        check("quantize.static", "quantize.smooth")
    with pytest.raises(RecipeError, match=r"already quantized by quantize\.weights"):
        check("quantize.weights", "quantize.dynamic")
