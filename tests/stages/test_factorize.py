"""Factorizing: what becomes a product, what stays whole, and what the later stages make of it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers import labelled_texts, small_context, tagged_examples, tiny_teacher
from pydantic import ValidationError

from edgecompress.errors import StageError
from edgecompress.stage import check_stage
from edgecompress.stages.distil import Distil
from edgecompress.stages.export import Export
from edgecompress.stages.factorize import Factorize
from edgecompress.stages.finetune import Finetune
from edgecompress.stages.prune.structured import Structured
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.surgery.low_rank import ranks
from edgecompress.surgery.model import load_module
from edgecompress.training.encoding import make_rows
from edgecompress.values import Measurement

TRAIN = tagged_examples(80, 1)
WORDS = "bert.embeddings.word_embeddings"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained")
    student = tiny_teacher(path / "new", TRAIN, "token-classification")
    return Finetune(epochs=3, learning_rate=3e-3).apply(student, small_context(path, train=TRAIN))


def factorized(stage, candidate, path, **fields):
    return check_stage(stage, candidate, small_context(path, train=TRAIN, **fields))


def test_parts_become_products(trained, tmp_path):
    stage = Factorize(embedding=8, linear={"energy": 0.8}, multiple_of=4)
    result = factorized(stage, trained, tmp_path)
    decisions = result.steps[-1].decisions
    module = load_module(result.model)
    assert ranks(module) == decisions["ranks"]
    assert decisions["ranks"][WORDS] == 8
    assert all(rank % 4 == 0 for rank in decisions["ranks"].values())
    for path, share in decisions["energy"].items():
        assert path == WORDS or share >= 0.8
    # Each of the 18 linear layers is a product or stays whole with a reason.
    assert len(decisions["ranks"]) + len(decisions["whole"]) == 19
    assert all("is not smaller than 32 ×" in why for why in decisions["whole"].values())
    counted = sum(parameter.numel() for parameter in module.parameters())
    assert counted == decisions["parameters"]["after"] < decisions["parameters"]["before"]


def test_weighing_by_texts_keeps_the_answers_better(trained, tmp_path):
    whole = load_module(trained.model)
    rows = make_rows(trained, TRAIN, whole)
    expected = rows.outputs(whole)
    gaps = {}
    for weighted in (True, False):
        stage = Factorize(embedding=8, linear=8, weighted=weighted, multiple_of=8)
        result = factorized(stage, trained, tmp_path / str(weighted))
        found = rows.outputs(load_module(result.model))
        gaps[weighted] = sum(np.square(a - b).sum() for a, b in zip(expected, found, strict=True))
    assert gaps[True] < 0.8 * gaps[False]


def test_a_budget_is_kept(trained, tmp_path):
    stage = Factorize(linear={"budget": 0.5}, multiple_of=2, only=("ffn_in", "ffn_out"))
    decisions = factorized(stage, trained, tmp_path).steps[-1].decisions
    assert set(decisions["ranks"]) | set(decisions["whole"]) == {
        f"bert.encoder.layer.{layer}.{part}.dense"
        for layer in range(3)
        for part in ("intermediate", "output")
    }
    weights = sum(rank * 96 for rank in decisions["ranks"].values())
    weights += len(decisions["whole"]) * 32 * 64
    assert 0.4 * 6 * 32 * 64 < weights <= 0.5 * 6 * 32 * 64


def test_it_heals_exports_and_quantizes(trained, tmp_path):
    stage = Factorize(embedding=8, linear=8, multiple_of=8)
    once = factorized(stage, trained, tmp_path / "1")
    healed = check_stage(
        Distil(epochs=1), once, small_context(tmp_path / "2", train=TRAIN, teacher=trained)
    )
    assert ranks(load_module(healed.model)) == once.steps[-1].decisions["ranks"]
    context = small_context(tmp_path / "3", train=TRAIN, validation=TRAIN[:8])
    exported = check_stage(Export(), healed, context)
    found = check_stage(Dynamic(), exported, small_context(tmp_path / "4", train=TRAIN))
    decisions = found.steps[-1].decisions
    # Six products of two in each layer, the embedding's, the classifier: all int8, and its table.
    assert len(decisions["int8_linears"]) == 3 * 12 + 1 + 1
    assert len(decisions["int8_embeddings"]) == 3
    assert decisions["exceptions"] == {}


def test_it_comes_after_pruning(trained, tmp_path):
    pruned = Structured(heads=0.25, ffn=0.5, importance="magnitude").apply(
        trained, small_context(tmp_path / "1", train=TRAIN)
    )
    once = factorized(Factorize(linear=4, multiple_of=4), pruned, tmp_path / "2")
    assert (
        json.loads((once.model.directory / "surgery.json").read_text())["neurons"]
        == (pruned.steps[-1].decisions["neurons"])
    )
    with pytest.raises(StageError, match="put `factorize` after the stages that prune"):
        factorized(Structured(ffn=0.5, importance="magnitude"), once, tmp_path / "3")
    with pytest.raises(StageError, match="it is a product already"):
        factorized(Factorize(linear=4, multiple_of=4), once, tmp_path / "4")


class Slow:
    """A clock for which every product of a rank is slow: `measure` is asked, not the machine."""

    def __init__(self, slow):
        self.slow, self.asked = slow, []

    def __call__(self, candidates):
        from edgecompress.models.session import open_session

        shapes = []
        for candidate in candidates:
            session = open_session(candidate.model)
            session.run(None, {"x": np.ones(session.get_inputs()[0].shape, np.float32)})
            shapes.append(session.get_outputs()[0].shape[-1])
        self.asked.append(shapes)
        speedup = 0.5 if shapes[0] in self.slow else 2.0
        return [
            (Measurement("speedup", value, "x", interval=(value, value)),)
            for value in (1.0, speedup)
        ]


def test_what_is_slower_is_merged_back(trained, tmp_path):
    stage = Factorize(linear=8, multiple_of=8, measure=True)
    context = small_context(tmp_path / "1", train=TRAIN, measure=Slow({32}))
    result = check_stage(stage, trained, context)
    decisions = result.steps[-1].decisions
    assert len(context.measure.asked) == 3
    assert set(decisions["ranks"]) == {
        f"bert.encoder.layer.{layer}.intermediate.dense" for layer in range(3)
    }
    assert set(decisions["whole"].values()) == {"a product of rank 8 was slower (int8)"}
    assert "speedup" not in json.dumps(decisions)
    assert result.steps[-1].measured["products"]["32×8×64"]["speedup"] == 2.0
    # Made again, nothing is timed, and the same is decided.
    again = small_context(tmp_path / "2", train=TRAIN)
    assert stage.apply(trained, again, decisions).steps[-1].decisions == decisions
    with pytest.raises(StageError, match="names products that this recipe does not make"):
        stage.apply(trained, again, {"ranks": {WORDS: 8}, "whole": {}})


def test_zeros_that_must_stay_stay(trained, tmp_path):
    from edgecompress.surgery.model import save_module
    from edgecompress.surgery.sparsity import mark

    module = load_module(trained.model)
    mark(module.get_submodule(WORDS))
    sparse = replace(trained, model=save_module(module, tmp_path / "sparse"))
    decisions = factorized(Factorize(embedding=8, linear=8, multiple_of=8), sparse, tmp_path / "1")
    assert decisions.steps[-1].decisions["whole"][WORDS] == "its zeros must stay where they are"


def test_texts_too(tmp_path):
    train = labelled_texts(40, 1)
    student = tiny_teacher(tmp_path / "new", train, "text-classification")
    context = small_context(tmp_path / "run", train=train)
    result = check_stage(Factorize(embedding={"energy": 0.7}, multiple_of=4), student, context)
    assert set(result.steps[-1].decisions["ranks"]) == {WORDS}


def test_what_is_refused(trained, tmp_path):
    with pytest.raises(StageError, match=r"rank 32 is not smaller than 32 × 32.*lower ranks"):
        factorized(Factorize(linear=32), trained, tmp_path)
    for wrong, message in (
        ({}, "does nothing"),
        ({"embedding": 100}, "such as 96 or 112, not 100"),
        ({"embedding": 8}, "such as 16, not 8"),
        ({"linear": {"energy": 1.5}}, "less than 1"),
        ({"linear": {"energy": 0.5, "budget": 0.5}}, "one of rank, energy and budget"),
        ({"linear": {}}, "one of rank, energy and budget"),
        ({"embedding": 16, "only": ("query",)}, "linear has no rank"),
        ({"linear": 16, "only": ("keys",)}, "only"),
        ({"linear": 0}, "greater than 0"),
    ):
        with pytest.raises(ValidationError, match=message):
            Factorize(**wrong)


@pytest.mark.parametrize("first", ["trim", "factorize", "share"])
def test_with_fewer_pieces_in_either_order(first, trained, tmp_path):
    from edgecompress.stages.vocabulary.share import Share
    from edgecompress.stages.vocabulary.trim import Trim

    product = Factorize(embedding=16, multiple_of=8)
    stages = {
        "trim": (Trim(keep=80), product),
        "factorize": (product, Trim(keep=80)),
        "share": (Share(rows=80), product),
    }
    found = trained
    for index, stage in enumerate(stages[first]):
        found = factorized(stage, found, tmp_path / str(index))
    module = load_module(found.model)
    (path,) = ranks(module)
    assert path == (f"{WORDS}.table" if first == "share" else WORDS)
    assert module.get_submodule(path).table.weight.shape == (80, 16)
    # Rank 16 of 32 by frequency: what training texts are answered hardly changes.
    rows = make_rows(found, TRAIN, module)
    assert rows.primary_score(module) > 0.5
    with_training = check_stage(
        Finetune(epochs=1), found, small_context(tmp_path / "more", train=TRAIN[:16])
    )
    assert ranks(load_module(with_training.model)) == {path: 16}
