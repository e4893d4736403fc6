"""Finetune on tiny models: it learns, keeps the contract, and gives the same twice."""

import pytest
from helpers import labelled_texts, small_context, tagged_examples, tiny_teacher

from edgecompress.errors import DataError
from edgecompress.stage import check_stage
from edgecompress.stages.finetune import Finetune
from edgecompress.texts import text_example

CASES = {
    "token-classification": (tagged_examples(160, 1), tagged_examples(40, 2)),
    "text-classification": (labelled_texts(160, 1), labelled_texts(40, 2)),
}


@pytest.mark.parametrize("task", CASES)
def test_it_learns_and_gives_the_same_twice(task, tmp_path):
    train, validation = CASES[task]
    student = tiny_teacher(tmp_path / "new", train, task)
    stage = Finetune(epochs=4, learning_rate=3e-3)
    context = small_context(tmp_path, train=train, validation=validation)
    result = check_stage(stage, student, context)  # trains twice
    decisions = result.steps[-1].decisions
    assert decisions["losses"][-1] < decisions["losses"][0]
    assert max(decisions["scores"]) > 0.9
    assert decisions["scores"][decisions["best_epoch"] - 1] == max(decisions["scores"])
    assert context.said[-1] == (40, 40, "epoch 4 of 4")


def test_frozen_embeddings_stay(tmp_path):
    import torch

    from edgecompress.surgery.families import word_embedding
    from edgecompress.surgery.model import load_module

    train, _ = CASES["text-classification"]
    student = tiny_teacher(tmp_path / "new", train, "text-classification")
    before = word_embedding(load_module(student.model)).weight
    for freeze in (True, False):
        context = small_context(tmp_path / str(freeze), train=train)
        stage = Finetune(epochs=1, freeze_embeddings=freeze)
        result = stage.apply(student, context)
        after = word_embedding(load_module(result.model)).weight
        assert torch.equal(before, after) is freeze
        assert result.steps[-1].decisions["scores"] == [None]


def test_patience_ends_it_early(tmp_path):
    train, validation = CASES["text-classification"]
    student = tiny_teacher(tmp_path / "new", train, "text-classification")
    context = small_context(tmp_path, train=train, validation=validation)
    stage = Finetune(epochs=20, learning_rate=5e-3, patience=2)
    result = stage.apply(student, context)
    decisions = result.steps[-1].decisions
    assert len(decisions["losses"]) == decisions["best_epoch"] + 2 < 20


def test_data_that_cannot_be_learned_from(tmp_path):
    train, _ = CASES["text-classification"]
    student = tiny_teacher(tmp_path / "new", train, "text-classification")
    for examples, message in (
        ((), "no examples"),
        ((text_example(text="leo"),), "no training example has a label"),
        ((text_example(text="leo", label="sport"),), "'sport'"),
    ):
        context = small_context(tmp_path / "run", train=examples)
        with pytest.raises(DataError, match=message):
            Finetune().apply(student, context)
