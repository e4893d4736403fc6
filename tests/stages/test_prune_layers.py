"""Layer pruning: which layers go, and what is refused."""

from dataclasses import replace

import pytest
import torch
from helpers import mean_loss, only_layers, small_context, tagged_examples, tiny_teacher
from pydantic import ValidationError

from edgecompress.errors import DataError, StageError
from edgecompress.stage import check_stage
from edgecompress.stages.prune.layers import Layers
from edgecompress.surgery.families import blocks, layer_list
from edgecompress.surgery.model import load_module, save_module
from edgecompress.training.encoding import make_rows
from edgecompress.training.importance.effect import LayerEffects, answered
from edgecompress.training.rows import even_batches

TRAIN = tagged_examples(60, 1)


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    path = tmp_path_factory.mktemp("new")
    return tiny_teacher(path, TRAIN, "token-classification", layers=4)


@pytest.mark.parametrize(
    ("stage", "kept"),
    [
        (Layers(keep=2, choose="even"), [0, 3]),
        (Layers(keep=(1, 2, 3)), [1, 2, 3]),
        (Layers(keep=4), [0, 1, 2, 3]),
    ],
)
def test_named_and_even_layers(stage, kept, student, tmp_path):
    result = check_stage(stage, student, small_context(tmp_path, train=TRAIN))
    assert result.steps[-1].decisions["kept"] == kept
    assert len(layer_list(load_module(result.model))) == len(kept)


def test_effect_drops_the_layer_that_does_nothing(student, tmp_path):
    """A layer whose output matrices are zero passes its (normalised) input on."""
    module = load_module(student.model)
    idle = list(blocks(module))[2]
    with torch.no_grad():
        for role in ("output", "ffn_out"):
            idle.part(role).weight.zero_()
            idle.part(role).bias.zero_()
    lazy = replace(student, model=save_module(module, tmp_path / "lazy"))
    context = small_context(tmp_path, train=TRAIN)
    result = check_stage(Layers(keep=2, samples=30), lazy, context)
    decisions = result.steps[-1].decisions
    first, second = decisions["dropped"]
    assert set(first["loss_without"]) == {"0", "1", "2", "3"}
    assert len(second["loss_without"]) == 3
    assert first["loss_without"][str(first["layer"])] == min(first["loss_without"].values())
    assert context.said[-1][:2] == (7, 7)


@pytest.mark.parametrize("measure", ["loss", "divergence"])
def test_kept_states_change_nothing(measure, student):
    """What is measured with states kept is what whole passes measure."""
    module = load_module(student.model)
    rows = make_rows(student, TRAIN[:20], module)
    effects = LayerEffects(module, rows, measure)
    whole = torch.cat(effects.wanted) if effects.wanted else None
    for gone in (1, 2, 0):
        for position in range(len(effects.kept)):
            left = [layer for k, layer in enumerate(effects.kept) if k != position]
            found = effects.without(position)
            with only_layers(module, left):
                if measure == "loss":
                    expected = mean_loss(module, rows)
                else:
                    expected = _divergence(module, rows, whole)
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-9)
        effects.leave_out(gone)
    assert len(layer_list(module)) == 4


def _divergence(module, rows, whole):
    found = []
    for batch in even_batches(rows.padded):
        with torch.no_grad():
            logits = module(**rows.feed(batch)).logits
        found.append(answered(rows, batch.tolist(), logits).log_softmax(-1))
    return float((whole.exp() * (whole - torch.cat(found))).sum(-1).mean())


def test_without_labels_the_answers_count(student, tmp_path):
    unlabelled = tuple(replace(example, target=None) for example in TRAIN)
    context = small_context(tmp_path, train=unlabelled)
    result = check_stage(Layers(keep=3, samples=30), student, context)
    (dropped,) = result.steps[-1].decisions["dropped"]
    found = dropped["divergence_without"]
    assert set(found) == {"0", "1", "2", "3"}
    assert found[str(dropped["layer"])] == min(found.values()) > 0
    with pytest.raises(DataError, match="no training example has a label"):
        Layers(keep=3, measure="loss").apply(student, context)


def test_what_is_refused(student, tmp_path):
    context = small_context(tmp_path, train=TRAIN)
    with pytest.raises(StageError, match="keep is 5, but the model has only 4 layers"):
        Layers(keep=5).apply(student, context)
    with pytest.raises(StageError, match="keep names layer 7; the last one is 3"):
        Layers(keep=(0, 7)).apply(student, context)
    for wrong in (0, (), (2, 1), (1, 1), (-1, 2), 1.5):
        with pytest.raises(ValidationError):
            Layers(keep=wrong)
