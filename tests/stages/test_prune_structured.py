"""Structured pruning: what is removed is gone, uneven per layer, and by importance."""

import json

import numpy as np
import pytest
from helpers import labelled_texts, small_context, tagged_examples, tiny_teacher
from pydantic import ValidationError

from edgecompress.errors import DataError, StageError
from edgecompress.stage import check_stage
from edgecompress.stages.finetune import Finetune
from edgecompress.stages.prune.structured import Structured
from edgecompress.surgery.families import blocks
from edgecompress.surgery.model import load_module
from edgecompress.training.importance import keep_best, taylor
from edgecompress.training.rows import make_rows, primary_score
from edgecompress.values import Example

TRAIN = tagged_examples(120, 1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained")
    student = tiny_teacher(path / "new", TRAIN, "token-classification")
    context = small_context(path, train=TRAIN)
    return Finetune(epochs=3, learning_rate=3e-3).apply(student, context)


@pytest.mark.parametrize("importance", ["taylor", "magnitude"])
def test_parts_leave_for_good(importance, trained, tmp_path):
    context = small_context(tmp_path, train=TRAIN)
    stage = Structured(heads=0.5, ffn=0.5, importance=importance, samples=60, multiple_of=8)
    result = check_stage(stage, trained, context)
    decisions = result.steps[-1].decisions
    assert sum(len(kept) for kept in decisions["heads"]) == 6
    assert sum(decisions["neurons"]) == 96
    assert all(width % 8 == 0 for width in decisions["neurons"])
    module = load_module(result.model)
    assert [block.heads for block in blocks(module)] == [len(h) for h in decisions["heads"]]
    assert [block.neurons for block in blocks(module)] == decisions["neurons"]
    before = (trained.model.directory / "model.safetensors").stat().st_size
    after = (result.model.directory / "model.safetensors").stat().st_size
    head, neuron = 4 * 32 * 8 + 3 * 8, 2 * 32 + 1
    assert before - after == pytest.approx(4 * (6 * head + 96 * neuron), abs=400)


def test_same_seed_same_structure(trained, tmp_path):
    found = []
    for name in ("a", "b"):
        context = small_context(tmp_path / name, train=TRAIN)
        found.append(Structured(heads=0.3, ffn=0.4, samples=50).apply(trained, context))
    assert found[0].steps[-1].decisions == found[1].steps[-1].decisions


def test_it_can_be_pruned_twice(trained, tmp_path):
    once = Structured(ffn=0.3, multiple_of=1).apply(
        trained, small_context(tmp_path / "1", train=TRAIN)
    )
    twice = Structured(heads=0.5, ffn=0.3, multiple_of=1).apply(
        once, small_context(tmp_path / "2", train=TRAIN)
    )
    assert sum(once.steps[-1].decisions["neurons"]) == 192 - 57
    assert sum(twice.steps[-1].decisions["neurons"]) == 135 - 40
    assert json.loads((twice.model.directory / "surgery.json").read_text())["format"] == 2


def test_importance_finds_what_does_nothing(trained, tmp_path):
    """Neurons and heads whose output is silenced have no effect; the rest has some."""
    import torch

    module = load_module(trained.model)
    first = next(blocks(module))
    with torch.no_grad():
        first.part("ffn_out").weight[:, 10:30] = 0
        first.part("output").weight[:, 8:16] = 0
    rows = make_rows(trained, TRAIN[:40], module)
    found = taylor(module, rows, lambda done: None)
    assert np.all(found.neurons[0][10:30] == 0)
    assert found.heads[0][1] == 0
    assert np.all(found.heads[0][[0, 2, 3]] > 0)
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert primary_score(module, rows) > 0.5


def test_taylor_is_the_gradient_of_each_example(trained):
    """Batched masks give what one backward pass per example gives."""
    import torch

    module = load_module(trained.model)
    rows = make_rows(trained, TRAIN[:6], module)
    found = taylor(module, rows, lambda done: None)
    last = list(blocks(module))[-1]
    kept = {}
    handle = last.part("ffn_out").register_forward_pre_hook(
        lambda _, inputs: kept.update(value=inputs[0]) or inputs[0].retain_grad()
    )
    expected = torch.zeros(64, dtype=torch.float64)
    for row in range(6):
        feed = rows.feed([row])
        logits = module(**feed).logits[0]
        targets = rows.targets([row], logits.shape[0])[0]
        torch.nn.functional.cross_entropy(logits, targets).backward()
        effect = (kept["value"].grad * kept["value"]).sum((0, 1)).detach().double()
        expected += effect.square()
    handle.remove()
    np.testing.assert_allclose(found.neurons[-1], expected.numpy(), rtol=1e-4)


@pytest.mark.parametrize("multiple", [1, 4, 16])
@pytest.mark.parametrize("remove", [0.0, 0.1, 0.5, 0.6])
def test_what_is_kept(multiple, remove):
    random = np.random.default_rng(5)
    scores = [random.random(48) * scale for scale in (1, 10, 0.1)]
    kept = keep_best(scores, remove, "ffn", multiple)
    counts = [len(layer) for layer in kept]
    assert sum(counts) <= 144 - int(remove * 144)
    assert sum(counts) > 144 - remove * 144 - 2 * multiple
    for layer, indices in zip(scores, kept, strict=True):
        assert indices == sorted(set(indices))
        assert len(indices) == 48 or len(indices) % multiple == 0
        gone = set(range(48)) - set(indices)
        assert not gone or min(layer[indices]) >= max(layer[list(gone)])
    if remove == 0.5 and multiple == 1:
        assert counts[2] < counts[0] < counts[1]


def test_a_layer_is_never_emptied(trained, tmp_path):
    context = small_context(tmp_path, train=TRAIN)
    with pytest.raises(StageError, match=r"heads: 0.9 would leave 2 in 3 layers.*at most 0.75"):
        Structured(heads=0.9, importance="magnitude").apply(trained, context)
    with pytest.raises(StageError, match=r"ffn: 0.9 .*keeps at least 16"):
        Structured(ffn=0.9, importance="magnitude").apply(trained, context)
    least = Structured(heads=0.75, importance="magnitude").apply(trained, context)
    assert [len(kept) for kept in least.steps[-1].decisions["heads"]] == [1, 1, 1]


def test_parameters_are_checked_when_it_is_made():
    for wrong in ({}, {"heads": 1.0}, {"ffn": -0.1}, {"heads": 0.5, "share": 1}):
        with pytest.raises(ValidationError):
            Structured(**wrong)


def test_it_needs_labels(trained, tmp_path):
    context = small_context(tmp_path, train=(Example(words=("leo",)),))
    with pytest.raises(DataError, match="no training example has a label"):
        Structured(heads=0.5).apply(trained, context)


def test_texts_are_pruned_too(tmp_path):
    train = labelled_texts(40, 1)
    student = tiny_teacher(tmp_path / "new", train, "text-classification")
    context = small_context(tmp_path / "run", train=train)
    result = check_stage(Structured(heads=0.5, ffn=0.5), student, context)
    assert sum(result.steps[-1].decisions["neurons"]) == 96
