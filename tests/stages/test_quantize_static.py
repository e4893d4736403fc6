"""`quantize.static`: all int8 in integer kernels, ranges of real activations, close to fp32."""

import shutil
from pathlib import Path

import pytest
from helpers import labelled_texts, small_context, tagged_examples
from small_encoders import relative_error, torch_logits, write_encoder

from edgecompress.errors import DataError, StageError
from edgecompress.models.session import input_specs, open_session
from edgecompress.quantization.graphs.fusion import fuse
from edgecompress.quantization.prove.proof import coverage
from edgecompress.stage import check_stage
from edgecompress.stages.export import Export
from edgecompress.stages.quantize.static import Static
from edgecompress.texts import running_text
from edgecompress.values import Candidate, OnnxModel

TASKS = {"token-classification": tagged_examples, "text-classification": labelled_texts}


@pytest.fixture(scope="module", params=list(TASKS))
def pair(request, tmp_path_factory):
    """A PyTorch model of either task, uneven in its layers, and its export."""
    folder = tmp_path_factory.mktemp("encoder")
    family = "Bert" if request.param == "token-classification" else "XLMRoberta"
    torch_model = write_encoder(folder, family, request.param, uneven=True)
    return torch_model, Export().apply(torch_model, small_context(folder / "export"))


def error_of(quantized: Candidate, torch_model: Candidate) -> float:
    session = open_session(quantized.model)
    names = tuple(spec.name for spec in input_specs(session))
    expected, feeds = torch_logits(torch_model, TASKS[torch_model.task](20, seed=3), names)
    return relative_error(expected, [session.run(None, feed)[0] for feed in feeds])


@pytest.mark.parametrize("method", ["minmax", "average", "percentile", "entropy", "mse"])
def test_all_is_int8_and_answers_stay_close(pair, tmp_path, method):
    torch_model, exported = pair
    train = TASKS[torch_model.task](60)
    context = small_context(tmp_path, train=train)
    made = check_stage(Static(samples=32, method=method), exported, context)
    decisions = made.steps[-1].decisions
    found = coverage(made.model)
    assert not found.fp32_linears and not found.fp32_embeddings
    assert len(found.int8_linears) == 2 * 6 + (1 if "token" in torch_model.task else 2)
    assert decisions["exceptions"] == {} and decisions["calibrated_on"] == 32
    assert {part.op for part in found.int8_linears} <= {"MatMulIntegerToFloat", "MatMulInteger"}
    assert error_of(made, torch_model) < (0.1 if method in ("minmax", "mse") else 0.2)
    assert context.said[-1][0] == context.said[-1][1] == 32
    assert not (tmp_path / "scratch" / "observed").exists()


def test_one_pass_serves_all_methods(pair, tmp_path):
    torch_model, exported = pair
    train = TASKS[torch_model.task](20)
    said = []
    for method in ("minmax", "entropy", "mse"):
        context = small_context(tmp_path, train=train)
        made = Static(method=method).apply(exported, context)
        said.append(len(context.said))
        assert len(made.steps[-1].decisions["ranges"]) > 4
        shutil.rmtree(tmp_path / "folder")
    assert said[0] == 20 and said[1:] == [0, 0]


def test_fused_attention_runs_as_int8_too(pair, tmp_path):
    torch_model, exported = pair
    path = tmp_path / "fused" / "model.onnx"
    fuse(exported.model.path, ("attention",), "bert", path)
    fused = Candidate(OnnxModel(path), exported.preprocessor, exported.task, exported.labels)
    context = small_context(tmp_path, train=TASKS[torch_model.task](40))
    made = Static(samples=32).apply(fused, context)
    found = coverage(made.model)
    assert found.operators["QAttention"] == 2
    assert not found.fp32_linears and not found.fp32_embeddings
    assert error_of(made, torch_model) < 0.1


def test_ranges_are_those_of_the_activations_without_the_mask(pair, tmp_path):
    torch_model, exported = pair
    context = small_context(tmp_path, train=TASKS[torch_model.task](20))
    ranges = Static(samples=20).apply(exported, context).steps[-1].decisions["ranges"]
    assert all(-1e4 < low <= high < 1e4 for low, high in ranges.values())


def test_the_same_data_and_seed_give_the_same_bytes(pair, tmp_path):
    torch_model, exported = pair
    train = TASKS[torch_model.task](40)
    made = [
        Static(samples=16)
        .apply(exported, small_context(tmp_path / name, train=train))
        .model.path.read_bytes()
        for name in "ab"
    ]
    assert made[0] == made[1]


@pytest.mark.parametrize(
    "fields", [{"method": "average", "activation": "int8"}, {"embedding_bits": 4}]
)
def test_a_recorded_plan_needs_no_examples(pair, tmp_path, fields):
    torch_model, exported = pair
    stage = Static(**fields)
    context = small_context(tmp_path / "a", train=TASKS[torch_model.task](20))
    first = stage.apply(exported, context)
    again = stage.apply(exported, small_context(tmp_path / "b"), first.steps[-1].decisions)
    assert again.model.path.read_bytes() == first.model.path.read_bytes()
    assert again.steps[-1].decisions == first.steps[-1].decisions


def test_a_calibration_set_chooses_the_examples(pair, tmp_path):
    torch_model, exported = pair
    definition = tmp_path / "mine.yaml"
    definition.write_text("name: mine\nchoose: length\nsamples: 12\n", encoding="utf-8")
    context = small_context(tmp_path, train=TASKS[torch_model.task](30))
    made = Static(calibration=str(definition)).apply(exported, context)
    assert made.steps[-1].decisions["calibrated_on"] == 12
    fewer = Static(calibration=str(definition), samples=5)
    made = fewer.apply(exported, small_context(tmp_path / "b", train=context.train))
    assert made.steps[-1].decisions["calibrated_on"] == 5


def test_texts_in_a_file_give_the_ranges_of_the_same_examples(pair, tmp_path):
    torch_model, exported = pair
    train = TASKS[torch_model.task](12)
    texts = [running_text(example) for example in train]
    (tmp_path / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    stage = Static(inputs=str(tmp_path / "texts.txt"), preprocessor=str(exported.preprocessor))
    bare = Candidate(exported.model)
    made = check_stage(stage, bare, small_context(tmp_path / "a"))
    ranges = made.steps[-1].decisions["ranges"]
    expected = Static(samples=12).apply(exported, small_context(tmp_path / "b", train=train))
    assert ranges == expected.steps[-1].decisions["ranges"]


def test_what_it_cannot_work_with_is_one_sentence(pair, tmp_path: Path):
    _, exported = pair
    with pytest.raises(StageError, match=r"there are none: give `data`, or files of `inputs`"):
        Static().apply(exported, small_context(tmp_path / "a"))
    bare = Candidate(exported.model)
    with pytest.raises(StageError, match="needs a task and a tokenizer"):
        Static().apply(bare, small_context(tmp_path / "b", train=tagged_examples(4)))
    with pytest.raises(DataError, match="no calibration set is called"):
        context = small_context(tmp_path / "c", train=tagged_examples(4))
        Static(calibration="no-such").apply(exported, context)
