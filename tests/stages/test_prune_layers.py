"""Layer pruning: which layers go, and what is refused."""

import pytest
from helpers import small_context, tagged_examples, tiny_teacher
from pydantic import ValidationError

from edgecompress.errors import StageError
from edgecompress.stage import check_stage
from edgecompress.stages.prune.layers import Layers
from edgecompress.surgery.families import blocks, layer_list
from edgecompress.surgery.model import load_module, save_module

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
    from dataclasses import replace

    import torch

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


def test_what_is_refused(student, tmp_path):
    context = small_context(tmp_path, train=TRAIN)
    with pytest.raises(StageError, match="keep is 5, but the model has only 4 layers"):
        Layers(keep=5).apply(student, context)
    with pytest.raises(StageError, match="keep names layer 7; the last one is 3"):
        Layers(keep=(0, 7)).apply(student, context)
    for wrong in (0, (), (2, 1), (1, 1), (-1, 2), 1.5):
        with pytest.raises(ValidationError):
            Layers(keep=wrong)
