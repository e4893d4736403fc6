"""Zeros stay zero in every training; gradual pruning reaches its end, is cut, and resumes."""

import pytest
import torch
from helpers import labelled_texts, small_context, tagged_examples, tiny_teacher
from pydantic import ValidationError

from edgecompress.errors import StageError
from edgecompress.stage import checked
from edgecompress.stages.distil import Distil
from edgecompress.stages.finetune import Finetune
from edgecompress.stages.prune.layers import Layers
from edgecompress.stages.prune.magnitude import Magnitude
from edgecompress.stages.prune.structured import Structured
from edgecompress.stages.vocabulary.trim import Trim
from edgecompress.surgery.families import blocks
from edgecompress.surgery.model import load_module
from edgecompress.surgery.sparsity import marked
from edgecompress.training.gradual_fields import Gradual
from edgecompress.training.sparsity import least_squares_within
from edgecompress.values import directory_digests

TRAIN, DEV = tagged_examples(120, 1), tagged_examples(40, 2)


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return tiny_teacher(tmp_path_factory.mktemp("new"), TRAIN, "token-classification")


@pytest.fixture(scope="module")
def teacher(student, tmp_path_factory):
    path = tmp_path_factory.mktemp("trained")
    return Finetune(epochs=3, learning_rate=3e-3).apply(student, small_context(path, train=TRAIN))


def applied(stage, candidate, path, **further):
    context = small_context(path, **{"train": TRAIN, "validation": DEV, **further})
    return checked(stage, candidate, context)


def weights_of(candidate):
    return {name: part.weight for name, part in marked(load_module(candidate.model)).items()}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("distil", {"pattern": "2:4"}),
        ("finetune", {"sparsity": 0.5, "matrices": ("linear", "embeddings", "classifier")}),
    ],
)
def test_zeros_are_still_zeros_after_training(kind, fields, teacher, tmp_path):
    sparse = applied(Magnitude(**fields), teacher, tmp_path / "sparse")
    inner = {"layer_map": "uniform"} if kind == "distil" else {}
    stage = {"finetune": Finetune, "distil": Distil}[kind](epochs=2, learning_rate=3e-3, **inner)
    result = applied(stage, sparse, tmp_path / kind, teacher=teacher)
    before, after = weights_of(sparse), weights_of(result)
    assert set(before) == set(after)
    for name, weight in before.items():
        assert torch.equal(weight == 0, after[name] == 0), name
        assert not torch.equal(weight, after[name]), name
    decisions = result.steps[-1].decisions
    assert decisions["kept_zeros"]["zeros"] == sparse.steps[-1].decisions["zeros"]


def test_zeros_stay_through_surgery_and_training(teacher, tmp_path):
    sparse = applied(Magnitude(sparsity=0.6), teacher, tmp_path / "sparse")
    cut = applied(Structured(heads=0.5, ffn=0.5), sparse, tmp_path / "cut")
    short = applied(Layers(keep=(0, 2)), cut, tmp_path / "short")
    before = weights_of(short)
    assert len(before) == 12
    assert all(0.2 < float((w == 0).float().mean()) < 0.95 for w in before.values())
    after = weights_of(applied(Finetune(epochs=1), short, tmp_path / "tuned"))
    assert all(torch.equal(before[name] == 0, after[name] == 0) for name in before)


def test_zeros_of_the_embedding_stay_through_a_trimmed_vocabulary(teacher, tmp_path):
    fields = {"sparsity": 0.6, "matrices": ("embeddings",)}
    sparse = applied(Magnitude(**fields), teacher, tmp_path / "sparse")
    trimmed = applied(Trim(alphabet="corpus"), sparse, tmp_path / "trimmed")
    (before,) = weights_of(trimmed).values()
    (table,) = weights_of(sparse).values()
    assert len(before) < len(table)
    assert 0.3 < float((before == 0).float().mean()) < 0.9
    result = applied(Finetune(epochs=1, learning_rate=3e-3), trimmed, tmp_path / "tuned")
    (after,) = weights_of(result).values()
    assert torch.equal(before == 0, after == 0)
    assert not torch.equal(before, after)
    # All rows are counted, not only those that the data use.
    assert result.steps[-1].decisions["kept_zeros"]["weights"] == before.numel()


def test_a_model_that_was_not_pruned_says_nothing_of_zeros(teacher, tmp_path):
    result = applied(Finetune(epochs=1), teacher, tmp_path)
    assert "kept_zeros" not in result.steps[-1].decisions
    assert not (result.model.directory / "sparsity.json").exists()


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ({"sparsity": 0.8}, 0.8),
        ({"pattern": "1:4"}, 0.75),
        ({"sparsity": 0.5, "pattern": "4x1", "scope": "layer", "schedule": "linear"}, 0.5),
    ],
)
def test_single_weights_go_gradually(plan, expected, teacher, tmp_path):
    stage = Finetune(epochs=4, learning_rate=3e-3, gradual={**plan, "every": 2, "until": 0.6})
    result = applied(stage, teacher, tmp_path / "gradual")
    decisions = result.steps[-1].decisions
    assert decisions["gradual"]["sparsity"] == pytest.approx(expected, abs=0.01)
    # 4 epochs of 8 steps: pruning is over at step 19, in the third epoch.
    assert decisions["scores"][:2] == [None, None]
    assert decisions["best_epoch"] in (3, 4)
    zeros = weights_of(result)
    assert len(zeros) == 18
    again = applied(Finetune(epochs=1), result, tmp_path / "again")
    after = weights_of(again)
    assert all(torch.equal(zeros[name] == 0, after[name] == 0) for name in zeros)
    if plan.get("pattern") == "1:4":
        for weight in after.values():
            assert bool(((weight.reshape(-1, 4) != 0).sum(1) == 1).all())


def test_sparsity_begins_where_the_model_is(teacher, tmp_path):
    sparse = applied(Magnitude(sparsity=0.5), teacher, tmp_path / "sparse")
    stage = Finetune(epochs=2, gradual={"sparsity": 0.75, "from": 0, "until": 1, "every": 1})
    result = applied(stage, sparse, tmp_path / "more")
    before, after = weights_of(sparse), weights_of(result)
    assert result.steps[-1].decisions["gradual"]["sparsity"] == pytest.approx(0.75, abs=0.01)
    assert all(bool(((after[name] == 0) | (before[name] != 0)).all()) for name in before)


@pytest.mark.parametrize("importance", ["taylor", "magnitude"])
def test_heads_and_neurons_go_gradually(importance, teacher, tmp_path):
    plan = {"heads": 0.5, "ffn": 0.5, "importance": importance, "multiple_of": 8, "every": 3}
    kind = Distil if importance == "taylor" else Finetune
    stage = kind(epochs=3, learning_rate=3e-3, gradual=plan)
    result = applied(stage, teacher, tmp_path, teacher=teacher)
    found = result.steps[-1].decisions["gradual"]
    assert sum(len(kept) for kept in found["heads"]) == 6
    assert sum(found["neurons"]) == 96
    assert all(width % 8 == 0 for width in found["neurons"])
    assert found["heads_before"] == [4, 4, 4]
    module = load_module(result.model)
    assert [block.heads for block in blocks(module)] == [len(kept) for kept in found["heads"]]
    assert [block.neurons for block in blocks(module)] == found["neurons"]
    assert not any(m._forward_pre_hooks for m in module.modules())


def test_what_is_cut_is_what_was_scored(teacher, tmp_path):
    """The masked model that the best epoch's score is of, and the smaller one, answer alike."""
    from edgecompress.training.encoding import make_rows

    stage = Finetune(epochs=3, learning_rate=3e-3, gradual={"heads": 0.5, "ffn": 0.7})
    result = applied(stage, teacher, tmp_path)
    decisions = result.steps[-1].decisions
    module = load_module(result.model)
    score = make_rows(result, DEV, module).primary_score(module)
    assert score == pytest.approx(decisions["scores"][decisions["best_epoch"] - 1], abs=0.02)


def test_the_average_of_the_gradients_finds_what_does_nothing(teacher, tmp_path):
    """Neurons whose output is silenced are the first to go."""
    from dataclasses import replace

    from edgecompress.surgery.model import save_module

    module = load_module(teacher.model)
    with torch.no_grad():
        for block in blocks(module):
            block.part("ffn_out").weight[:, 16:48] = 0
            block.part("output").weight[:, 8:24] = 0
    silent = replace(teacher, model=save_module(module, tmp_path / "silent"))
    stage = Finetune(epochs=1, learning_rate=1e-9,
                     gradual={"heads": 0.5, "ffn": 0.5, "every": 1, "until": 1})  # fmt: skip
    result = applied(stage, silent, tmp_path)
    assert result.steps[-1].decisions["gradual"]["heads"] == [[0, 3]] * 3
    for old, new in zip(blocks(module), blocks(load_module(result.model)), strict=True):
        kept = [*range(16), *range(48, 64)]
        assert torch.allclose(old.part("ffn_in").weight[kept], new.part("ffn_in").weight, atol=1e-5)


@pytest.mark.parametrize(
    "plan",
    [{"sparsity": 0.8, "every": 2}, {"heads": 0.5, "ffn": 0.5, "every": 2, "multiple_of": 8}],
)
def test_a_resumed_run_ends_in_the_same_model(plan, teacher, tmp_path):
    class KilledError(Exception):
        pass

    stage = Finetune(epochs=4, learning_rate=3e-3, gradual=plan)
    whole = applied(stage, teacher, tmp_path / "whole")

    def progress(done, total, what):
        if done == 22:  # in the third epoch of eight steps, while pruning
            raise KilledError

    context = small_context(tmp_path / "broken", train=TRAIN, validation=DEV, progress=progress)
    with pytest.raises(KilledError):
        stage.apply(teacher, context)
    resumed = applied(stage, teacher, tmp_path / "broken")
    assert whole.steps[-1].decisions == resumed.steps[-1].decisions
    assert directory_digests(whole.model.directory) == directory_digests(resumed.model.directory)


def test_a_plan_that_does_not_fit_the_model(teacher, tmp_path):
    context = small_context(tmp_path, train=TRAIN)
    for plan, message in (
        ({"heads": 0.9}, r"gradual heads: 0.9 would leave .* at most 0.75"),
        ({"ffn": 0.9}, r"gradual ffn: 0.9 would leave"),
        ({"pattern": "5:7"}, r"has 32 inputs, which the pattern 5:7 does not divide"),
        ({"sparsity": 0.9999}, "would be left without a weight"),
    ):
        with pytest.raises(StageError, match=message):
            Finetune(gradual=plan).apply(teacher, context)
    assert context.said == []


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({}, "gradual prunes nothing"),
        ({"sparsity": 0.5, "heads": 0.5}, "either single weights"),
        ({"sparsity": 0.5, "from": 0.7, "until": 0.7}, "from must be less than until"),
        ({"sparsity": 0.5, "from": 0.8}, "begins at 0.8 and ends at 0.7"),
        ({"sparsity": 1.0}, "less than 1"),
        ({"sparsity": 0.5, "every": 0}, "greater than 0"),
        ({"sparsity": 0.5, "pattern": "odd"}, "'odd' is no pattern"),
        ({"sparsity": 0.5, "schedule": "steps"}, "cubic"),
        ({"sparsity": 0.5, "begin": 0.1}, "begin"),
    ],
)
def test_plans_are_checked_when_they_are_made(plan, message):
    with pytest.raises(ValidationError, match=message):
        Finetune(gradual=plan)


def test_least_squares_over_some_entries_only():
    """As solving for each column with its own entries alone."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(200, 12, generator=random, dtype=torch.float64)
    gram, cross = x.T @ x, x.T @ torch.randn(200, 5, generator=random, dtype=torch.float64)
    kept = torch.rand(12, 5, generator=random) < 0.5
    found = least_squares_within(gram, cross, kept)
    for column in range(5):
        there = kept[:, column]
        expected = torch.linalg.solve(gram[there][:, there], cross[there, column])
        torch.testing.assert_close(found[there, column], expected)
        assert bool((found[~there, column] == 0).all())


def test_the_schedule_rises_to_its_end():
    plan = Gradual(sparsity=0.8, every=7)
    for total in (1, 2, 3, 10, 101):
        way = [plan.progress(done, total) for done in range(total + 1)]
        assert way == sorted(way)
        due = [done for done in range(1, total + 1) if plan.due(done, total)]
        assert due[-1] == plan.last(total) <= total
        assert plan.progress(due[-1], total) == 1


def test_texts_too(tmp_path):
    train = labelled_texts(60, 1)
    student = tiny_teacher(tmp_path / "new", train, "text-classification")
    stage = Finetune(epochs=2, gradual={"ffn": 0.5, "heads": 0.25, "every": 1})
    result = applied(stage, student, tmp_path / "run", train=train, validation=())
    assert sum(result.steps[-1].decisions["gradual"]["neurons"]) == 96
