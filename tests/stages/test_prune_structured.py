"""Structured pruning: what is removed is gone, uneven per layer, and by importance."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import labelled_texts, mean_loss, small_context, tagged_examples, tiny_teacher
from pydantic import ValidationError
from small_encoders import relative_error, torch_logits

from edgecompress.errors import DataError, StageError
from edgecompress.models.session import input_specs, open_session
from edgecompress.stage import check_stage
from edgecompress.stages.export import Export
from edgecompress.stages.finetune import Finetune
from edgecompress.stages.fuse import Fuse
from edgecompress.stages.prune.structured import Structured
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.surgery.families import blocks
from edgecompress.surgery.low_rank import make_low_rank
from edgecompress.surgery.model import load_module, save_module
from edgecompress.targets import open_target
from edgecompress.texts import words_example
from edgecompress.training.encoding import make_rows
from edgecompress.training.importance import fisher, keep_best, taylor
from edgecompress.training.importance.effect import answered
from edgecompress.training.structure import mac_costs, sizes

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
    assert rows.primary_score(module) > 0.5


def test_taylor_is_the_gradient_of_each_example(trained):
    """Batched masks give what one backward pass per example gives."""
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
        targets = rows.taught([row])["labels"][0]
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
    context = small_context(tmp_path, train=(words_example(words=("leo",)),))
    with pytest.raises(DataError, match="no training example has a label"):
        Structured(heads=0.5, importance="taylor").apply(trained, context)


def test_texts_are_pruned_too(tmp_path):
    train = labelled_texts(40, 1)
    student = tiny_teacher(tmp_path / "new", train, "text-classification")
    context = small_context(tmp_path / "run", train=train)
    stage = Structured(heads=0.5, ffn=0.5, hidden=0.25, multiple_of=8)
    result = check_stage(stage, student, context)
    assert sum(result.steps[-1].decisions["neurons"]) == 96
    assert result.steps[-1].decisions["hidden"] == 24


def test_fisher_needs_no_labels(trained, tmp_path):
    unlabelled = tuple(replace(example, target=None) for example in TRAIN[:40])
    context = small_context(tmp_path, train=unlabelled)
    result = check_stage(Structured(heads=0.3, ffn=0.5, multiple_of=4), trained, context)
    assert sum(result.steps[-1].decisions["neurons"]) == 96


def test_fisher_is_the_curvature_of_the_divergence(trained):
    """Twice the divergence that a small change of a mask causes, over its square."""
    module = load_module(trained.model)
    rows = make_rows(trained, TRAIN[:8], module)
    tries = [fisher(module, rows, lambda done: None, seed).neurons[-1] for seed in range(100)]
    found = np.mean(tries, axis=0)
    neuron, step = int(np.argmax(found)), 0.02
    module.double()
    wanted = _answers(module, rows)
    with torch.no_grad():
        list(blocks(module))[-1].part("ffn_out").weight[:, neuron] *= 1 - step
    divergence = float((wanted.exp() * (wanted - _answers(module, rows))).sum())
    assert 2 * divergence / step**2 == pytest.approx(found[neuron], rel=0.35)


def _answers(module, rows):
    feed = rows.feed(range(8))
    with torch.no_grad():
        return answered(rows, range(8), module(**feed).logits).log_softmax(-1)


@pytest.mark.parametrize("hidden", [0.0, 0.25])
@pytest.mark.parametrize("aim", ["size", "macs"])
def test_a_target_is_kept(aim, hidden, trained, tmp_path):
    context = small_context(tmp_path, train=TRAIN[:40])
    stage = Structured(target={aim: 0.6}, hidden=hidden, multiple_of=4)
    result = check_stage(stage, trained, context)
    module, before = load_module(result.model), load_module(trained.model)
    if aim == "size":
        costs = [sum(p.numel() for p in each.parameters()) for each in (module, before)]
    else:
        tokens = int(np.median(make_rows(trained, TRAIN[:40], module).lengths))
        costs = [mac_costs(each, tokens).total(*sizes(each)) for each in (module, before)]
    assert 0.55 < costs[0] / costs[1] <= 0.6
    assert result.steps[-1].measured[aim] == pytest.approx(costs[0] / costs[1], abs=1e-4)


def test_bytes_are_those_of_the_form_that_is_deployed(trained, tmp_path):
    context = small_context(tmp_path, train=TRAIN)
    stage = Structured(target={"size": "100kB", "deployed": "fp32"}, samples=20, multiple_of=1)
    result = stage.apply(trained, context)
    module = load_module(result.model)
    assert 97_000 < 4 * sum(p.numel() for p in module.parameters()) <= 100_000


def test_a_target_that_cannot_be_met_says_what_can(trained, tmp_path):
    context = small_context(tmp_path, train=TRAIN)
    with pytest.raises(
        StageError, match=r"macs of 0.010 .* cannot be met; .* it is 0\.\d+"
    ) as raised:
        Structured(target={"macs": 0.01}, samples=20).apply(trained, context)
    least = float(str(raised.value).rsplit(" ", 1)[1])
    result = Structured(target={"macs": least}, samples=20).apply(
        trained, small_context(tmp_path / "least", train=TRAIN)
    )
    decisions = result.steps[-1].decisions
    assert [len(kept) for kept in decisions["heads"]] == [1, 1, 1]
    assert decisions["neurons"] == [16, 16, 16]


class Paced:
    """This machine, whose times are set to rise with the width; all else is as it ran."""

    def __init__(self):
        self.local, self.jobs = open_target("local"), 0

    def __getattr__(self, name):
        return getattr(self.local, name)

    def run(self, job, folder, progress=None):
        self.jobs += 1
        found = self.local.run(job, folder, progress)
        steps = [100_000, 200_000, 300_000, 400_000, 200_000, 400_000, 600_000, 800_000, 1000]
        pairs = zip(found.series, steps, strict=True)
        series = tuple(replace(each, ns=np.full_like(each.ns, step)) for each, step in pairs)
        return replace(found, series=series)


def test_a_latency_target_measures_once_and_is_replayed(trained, tmp_path):
    stage = Structured(target={"latency": 0.6, "deployed": "fp32"}, samples=30, reconstruct=False)
    context = small_context(tmp_path, train=TRAIN, targets={"local": Paced()})
    result = check_stage(stage, trained, context)
    step = result.steps[-1]
    table = step.measured["table"]
    assert sorted(table["attention_ms"]) == ["1", "2", "3", "4"]
    assert sorted(table["feed_forward_ms"]) == ["16", "32", "48", "64"]
    times = [table["attention_ms"][str(len(kept))] for kept in step.decisions["heads"]]
    times += [table["feed_forward_ms"][str(count)] for count in step.decisions["neurons"]]
    whole = 3 * (table["attention_ms"]["4"] + table["feed_forward_ms"]["64"])
    assert sum(times) <= 0.6 * whole
    assert len(context.built) == (0 if table["invalid"] else 1)

    again = small_context(tmp_path / "again", train=TRAIN)
    with pytest.raises(StageError, match="has no record of how many heads and neurons"):
        stage.apply(trained, again, {"heads": [[0]], "neurons": [3]})


def test_reconstruction_needs_no_training_to_help(trained, tmp_path):
    rows = make_rows(trained, tagged_examples(60, 9), load_module(trained.model))
    scores = []
    for reconstruct in (False, True):
        context = small_context(tmp_path / str(reconstruct), train=TRAIN)
        stage = Structured(ffn=0.8, heads=0.5, multiple_of=4, reconstruct=reconstruct)
        result = stage.apply(trained, context)
        scores.append(mean_loss(load_module(result.model), rows))
    assert scores[1] < scores[0]


def test_what_cannot_be_pruned(trained, tmp_path):
    context = small_context(tmp_path, train=TRAIN)
    with pytest.raises(StageError, match="multiple_of is 128, but no layer has more than 64"):
        Structured(ffn=0.5, multiple_of=128).apply(trained, context)
    with pytest.raises(StageError, match=r"hidden: 0.9 would leave no 16 of 32 channels.*0.500"):
        Structured(hidden=0.9).apply(trained, context)
    module = load_module(trained.model)
    make_low_rank(module, "bert.encoder.layer.1.output.dense", 4)
    module.bert.encoder.layer[1].output.dense.to_empty(device="cpu")
    factorized = replace(trained, model=save_module(module, tmp_path / "factorized"))
    with pytest.raises(StageError, match="put `factorize` after the stages that prune"):
        Structured(ffn=0.5).apply(factorized, context)


def test_wrong_targets_are_refused():
    for wrong in (
        {},
        {"size": 0.5, "macs": 0.5},
        {"size": 12.0},
        {"size": "12 parsec"},
        {"latency": 1.5},
        {"macs": 0},
    ):
        with pytest.raises(ValidationError):
            Structured(target=wrong)
    with pytest.raises(ValidationError, match="not both"):
        Structured(target={"macs": 0.5}, ffn=0.5)
    with pytest.raises(ValidationError, match="magnitude does not compare"):
        Structured(target={"macs": 0.5}, importance="magnitude")


@pytest.mark.parametrize("hidden", [0.0, 0.25])
def test_uneven_models_are_exported_fused_and_quantized(hidden, trained, tmp_path):
    """From PyTorch to int8 in ONNX Runtime, with the numbers of the pruned PyTorch model."""
    stage = Structured(heads=0.4, ffn=0.4, hidden=hidden, multiple_of=8, samples=60)
    pruned = stage.apply(trained, small_context(tmp_path / "pruned", train=TRAIN))
    assert len({len(kept) for kept in pruned.steps[-1].decisions["heads"]}) > 1
    exported = Export().apply(pruned, small_context(tmp_path / "onnx", validation=TRAIN[:20]))
    every = {"fusions": ["tidy", "attention", "gelu"], "disabled_optimizers": []}
    context = small_context(tmp_path / "fused", validation=TRAIN[:20])
    fused = Fuse().apply(exported, context, every)
    operators = fused.steps[-1].decisions["operators"]
    assert operators.get("Attention") == 3, operators
    quantized = Dynamic().apply(fused, small_context(tmp_path / "int8"))
    names = tuple(spec.name for spec in input_specs(open_session(exported.model)))
    expected, feeds = torch_logits(pruned, tagged_examples(12, 5), names)
    for candidate, bound in ((exported, 1e-5), (fused, 1e-4), (quantized, 0.1)):
        session = open_session(candidate.model)
        found = [session.run(None, feed)[0] for feed in feeds]
        assert relative_error(expected, found) < bound
