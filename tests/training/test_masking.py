"""Masked language modelling: what is hidden and answered, distilling, and the body afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import labelled_texts, small_context, tagged_examples, tiny_teacher

from edgecompress.errors import DataError, StageError
from edgecompress.stage import checked
from edgecompress.stages.distil import Distil
from edgecompress.stages.finetune import Finetune
from edgecompress.stages.prune.layers import Layers
from edgecompress.surgery.model import load_module
from edgecompress.tasks.masked_lm import mask_id
from edgecompress.tasks.rows import IGNORED
from edgecompress.texts import text_example, text_of
from edgecompress.training.encoding import make_rows
from edgecompress.training.heads import HeadRules
from edgecompress.training.masking import MaskedRows, hiding
from edgecompress.training.masking_fields import Masking
from edgecompress.training.teacher import import_teacher
from edgecompress.values import Candidate

TEXTS = tuple(text_example(text=text_of(one), source=one.source) for one in labelled_texts(80))
HELD_OUT = tuple(text_example(text=text_of(one)) for one in labelled_texts(30, seed=1))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    """A model that has learnt to guess a little."""
    path = tmp_path_factory.mktemp("teacher")
    made = tiny_teacher(path / "new", TEXTS, "masked-lm")
    context = small_context(path, train=TEXTS, validation=HELD_OUT)
    taught = Finetune(epochs=6, learning_rate=5e-3).apply(made, context)
    folder = path / "taught"
    folder.mkdir()
    (context.folder / "model").rename(folder / "model")
    (path / "new" / "preprocessor").rename(folder / "preprocessor")
    found = replace(
        taught,
        model=replace(taught.model, directory=folder / "model"),
        preprocessor=folder / "preprocessor",
    )
    found.save(folder)
    return Candidate.load(folder)


@pytest.fixture
def rows(teacher: Candidate) -> MaskedRows:
    return make_rows(teacher, TEXTS, load_module(teacher.model))


def hidden(rows: MaskedRows) -> list[np.ndarray]:
    return [
        np.flatnonzero(rows.drawn(number).target["labels"] != IGNORED)
        for number in range(len(rows))
    ]


def test_new_pieces_are_hidden_each_epoch_and_the_same_ones_again(rows: MaskedRows):
    fixed = hidden(rows)
    rows.begin(0, seed=5)
    first = hidden(rows)
    rows.begin(1, seed=5)
    second = hidden(rows)
    rows.begin(0, seed=5)
    again = hidden(rows)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for one, other in ((first, second), (first, fixed)):
        assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_what_is_hidden_is_masked_replaced_or_left(rows: MaskedRows):
    rows = hiding(rows, Masking(share=0.9))
    pairs = [(one.feed["input_ids"], one.target["labels"]) for one in rows]
    whole = [np.where(label != IGNORED, label, ids) for ids, label in pairs]
    fates = []
    for epoch in range(4):
        rows.begin(epoch, seed=1)
        for number, plain in enumerate(whole):
            row = rows.drawn(number)
            ids, label = row.feed["input_ids"], row.target["labels"]
            at = label != IGNORED
            assert np.array_equal(label[at], plain[at]) and np.array_equal(ids[~at], plain[~at])
            masked, same = ids[at] == mask_id(rows.processor), ids[at] == plain[at]
            fates += [np.where(masked, 0, np.where(same, 1, 2))]
    shares = np.bincount(np.concatenate(fates)) / sum(map(len, fates))
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.03)


def test_whole_words_are_hidden_whole(rows: MaskedRows):
    rows = hiding(rows, Masking(share=0.3, whole_words=True))
    rows.begin(0, seed=1)
    for number, at in enumerate(hidden(rows)):
        places, words = rows.rows[number].place["positions"], rows.rows[number].place["words"]
        taken = np.isin(places, at)
        assert taken.any() and np.array_equal(taken, np.isin(words, words[taken]))


def test_only_hidden_places_are_answered_and_as_before(teacher: Candidate, rows: MaskedRows):
    module = load_module(teacher.model)
    numbers = np.array([3, 0, 7])
    rows.begin(2, seed=1)
    with torch.no_grad():
        whole = module(**rows.feed(numbers)).logits
        targets = rows.taught(numbers)["labels"]
        with rows.reading(module):
            narrow = module(**rows.feed(numbers)).logits
            wanted = rows.taught(numbers)["labels"]
            # Rows that the module is scored on meanwhile are not touched by what was fed before.
            rows.feed(numbers)
            module(**rows.feed(numbers))
            other = make_rows(teacher, HELD_OUT, module)
            assert len(other.outputs(module)) == len(other)
    assert torch.equal(wanted[0], targets[targets != IGNORED])
    assert torch.allclose(narrow[0], whole[targets != IGNORED], atol=1e-5)


def test_scores_are_those_of_whole_logits(teacher: Candidate):
    from edgecompress.targets.torch_answers import torch_answers

    module = load_module(teacher.model)
    held_out = make_rows(teacher, HELD_OUT, module)
    answers = torch_answers(teacher, HELD_OUT)
    score = held_out.task.score(answers, HELD_OUT, ())[0].value
    assert held_out.primary_score(module) == pytest.approx(score, rel=0.05)


def test_training_teaches_to_guess_and_keeps_one_embedding(teacher: Candidate, tmp_path: Path):
    fresh = tiny_teacher(tmp_path, TEXTS, "masked-lm")
    module = load_module(fresh.model)
    before = make_rows(fresh, HELD_OUT, module).primary_score(module)
    taught = load_module(teacher.model)
    after = make_rows(teacher, HELD_OUT, taught).primary_score(taught)
    assert after > 1.5 * before
    assert taught.get_output_embeddings().weight is taught.get_input_embeddings().weight
    assert teacher.labels == ()


def test_a_killed_training_goes_on_with_the_masks_of_its_epoch(tmp_path: Path):
    made = tiny_teacher(tmp_path / "new", TEXTS, "masked-lm", layers=1)

    def weights(path: Path, die_at: int | None) -> dict[str, torch.Tensor]:
        def progress(done: float, _total: float, _what: str = "") -> None:
            if done == die_at:
                raise KeyboardInterrupt

        context = small_context(path, train=TEXTS)
        stage = Finetune(epochs=3, learning_rate=1e-3)
        if die_at is not None:
            with pytest.raises(KeyboardInterrupt):
                stage.apply(made, replace(context, progress=progress))
        return load_module(stage.apply(made, context).model).state_dict()

    whole, resumed = weights(tmp_path / "a", None), weights(tmp_path / "b", 8)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def student_of(teacher: Candidate, path: Path) -> Candidate:
    context = small_context(path, train=TEXTS, validation=HELD_OUT)
    return Layers(keep=[0, 2]).apply(teacher, context)


@pytest.mark.parametrize(
    "fields",
    [
        {"label_weight": 0},
        {
            "logits_weight": 0,
            "label_weight": 0,
            "layer_map": "uniform",
            "embedding_weight": 1,
            "relation_weight": 1,
        },
    ],
    ids=["answers", "inner"],
)
def test_a_student_learns_from_the_teacher(teacher: Candidate, tmp_path: Path, fields: dict):
    student = student_of(teacher, tmp_path / "student")
    context = small_context(tmp_path, train=TEXTS, validation=HELD_OUT, teacher=teacher)
    found = checked(Distil(epochs=3, learning_rate=2e-3, **fields), student, context)
    losses = found.steps[-1].decisions["losses"]
    assert losses[-1] < losses[0]
    assert not context.built  # no answer of the teacher is kept
    again = small_context(tmp_path / "b", train=TEXTS, validation=HELD_OUT, teacher=teacher)
    same = Distil(epochs=3, learning_rate=2e-3, **fields).apply(student, again)
    assert same.steps[-1].decisions == found.steps[-1].decisions


def test_pieces_that_the_teacher_lacks_are_refused(teacher: Candidate, tmp_path: Path):
    more = (*TEXTS, text_example(text="zzz qqq xxx"))
    other = tiny_teacher(tmp_path / "other", more, "masked-lm")
    context = small_context(tmp_path, train=TEXTS, teacher=teacher)
    with pytest.raises(StageError, match="none of the teacher's"):
        Distil().apply(other, context)


def test_the_body_goes_on_under_a_fresh_head(teacher: Candidate, tmp_path: Path):
    student = student_of(teacher, tmp_path / "student")
    folder = tmp_path / "student" / "folder"
    (folder / "preprocessor").mkdir()
    for file in teacher.preprocessor.iterdir():
        (folder / "preprocessor" / file.name).write_bytes(file.read_bytes())
    replace(student, preprocessor=folder / "preprocessor").save(folder)
    labels = ("O", "B-LOC", "B-PER")
    rules = HeadRules(trained_later=True)
    task = "token-classification"
    with pytest.raises(DataError, match="it answers masked-lm, not token-classification"):
        import_teacher(str(folder), task, labels, tmp_path / "refused", seed=1)
    made = import_teacher(str(folder), task, labels, tmp_path / "made", seed=1, rules=rules)
    assert (made.task, made.labels) == ("token-classification", labels)
    body, old = load_module(made.model), load_module(student.model)
    for name, tensor in old.base_model.state_dict().items():
        assert torch.equal(body.base_model.state_dict()[name], tensor), name
    assert body.num_labels == 3 and len(body.base_model.encoder.layer) == 2
    examples = tagged_examples(20)
    context = small_context(tmp_path / "c", train=examples, validation=examples)
    trained = Finetune(epochs=2).apply(made, context)
    losses = trained.steps[-1].decisions["losses"]
    assert losses[1] < losses[0]


def test_pruned_bodies_keep_their_shape_under_a_head_with_a_pooler(
    teacher: Candidate, tmp_path: Path
):
    from edgecompress.surgery.heads_and_neurons import keep_heads_and_neurons
    from edgecompress.training.body import with_head

    module = load_module(teacher.model)
    keep_heads_and_neurons(module, [[0], [1, 2], [0, 3]], [range(20), range(30), range(40)])
    made = with_head(module, "text-classification", ("a", "b"), seed=0)
    ids = torch.tensor([[2, 9, 8, 3]])
    assert made(input_ids=ids).logits.shape == (1, 2)
    assert made.base_model.encoder.layer[0].intermediate.dense.out_features == 20
