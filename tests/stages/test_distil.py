"""Distillation: a pruned student learns from the teacher, whose outputs are computed once."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import labelled_texts, small_context, tagged_examples, tiny_teacher
from pydantic import ValidationError

from edgecompress.errors import DataError, StageError
from edgecompress.stage import check_stage, checked
from edgecompress.stages.distil import Distil
from edgecompress.stages.export import Export
from edgecompress.stages.finetune import Finetune
from edgecompress.stages.prune.layers import Layers
from edgecompress.stages.prune.structured import Structured
from edgecompress.surgery.model import load_module
from edgecompress.texts import words_of
from edgecompress.training.balance_fields import Balance
from edgecompress.training.encoding import make_rows
from edgecompress.training.student_shape import StudentShape
from edgecompress.values import SessionSettings, directory_digests

CASES = {
    "token-classification": (tagged_examples(120, 1), tagged_examples(40, 2)),
    "text-classification": (labelled_texts(160, 1), labelled_texts(40, 2)),
}


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A trained teacher and a student cut from it, per task."""
    found = {}
    for task, (train, validation) in CASES.items():
        path = tmp_path_factory.mktemp("taught")
        new = tiny_teacher(path / "new", train, task)
        context = small_context(path / "teacher", train=train, validation=validation)
        teacher = Finetune(epochs=4, learning_rate=5e-3).apply(new, context)
        context = small_context(path / "student", train=train)
        student = Structured(heads=0.5, ffn=0.5, importance="magnitude").apply(teacher, context)
        found[task] = (teacher, student)
    return found


@pytest.mark.parametrize("task", CASES)
def test_a_student_learns_without_labels(task, taught, tmp_path):
    train, validation = CASES[task]
    teacher, student = taught[task]
    stage = Distil(epochs=3, learning_rate=3e-3, label_weight=0, layer_map="uniform")
    fields = {"train": train, "validation": validation, "teacher": teacher}
    result = check_stage(stage, student, small_context(tmp_path, **fields))  # trains twice
    decisions = result.steps[-1].decisions
    assert decisions["layer_pairs"] == [[0, 0], [1, 1], [2, 2]]
    assert decisions["losses"][-1] < decisions["losses"][0]
    assert max(decisions["scores"]) > 0.9


def test_teacher_outputs_are_computed_once(taught, tmp_path):
    """A second student, and a map that needs one layer more, find what is there."""
    train, _ = CASES["token-classification"]
    teacher, student = taught["token-classification"]
    context = small_context(tmp_path, train=train, teacher=teacher)
    Distil(epochs=1, layer_map="last").apply(student, context)
    assert sorted(context.built) == ["hidden-2", "logits"]
    shorter = Layers(keep=(0, 2)).apply(student, small_context(tmp_path / "short"))
    again = small_context(tmp_path, train=train, teacher=teacher)
    Distil(epochs=1, layer_map="last", temperature=4.0).apply(
        shorter, replace(again, scratch=tmp_path / "s2")
    )
    assert again.built == []
    Distil(epochs=1, layer_map="uniform").apply(shorter, replace(again, scratch=tmp_path / "s3"))
    assert again.built == ["hidden-1"]


def two_files(examples):
    return [replace(one, source="ab"[number % 2]) for number, one in enumerate(examples)]


def test_files_that_score_below_the_teacher_are_drawn_more(taught, tmp_path):
    train, validation = map(two_files, CASES["token-classification"])
    teacher, _ = taught["token-classification"]
    student = tiny_teacher(tmp_path / "fresh", train, "token-classification")
    context = small_context(tmp_path, train=train, validation=validation, teacher=teacher)
    stage = Distil(epochs=2, learning_rate=1e-9, balance=Balance(lagging=4))
    told = stage.apply(student, context).steps[-1].decisions["balance"]
    assert sum(told["drawn"].values()) == pytest.approx(1, abs=1e-3)
    for name in "ab":
        some = [one for one in validation if one.source == name]
        above, below = [
            make_rows(one, some, module).primary_score(module)
            for one in (teacher, student)
            for module in [load_module(one.model)]
        ]
        assert told["gap"][name] == pytest.approx(above - below, abs=1e-4)
    assert min(told["gap"].values()) > 0
    with pytest.raises(DataError, match=r"give data\.validation"):
        stage.apply(student, replace(context, validation=(), scratch=tmp_path / "other"))


def test_a_narrower_student_is_projected(taught, tmp_path):
    train, _ = CASES["text-classification"]
    teacher, _ = taught["text-classification"]
    small = tiny_teacher(tmp_path / "small", train, "text-classification", hidden_size=16, layers=2)
    context = small_context(tmp_path, train=train, teacher=teacher)
    result = checked(Distil(epochs=2, layer_map=((0, 0), (1, 2))), small, context)
    assert result.steps[-1].decisions["layer_pairs"] == [[0, 0], [1, 2]]
    assert "beside" not in (result.model.directory / "config.json").read_text()


LOSSES = {
    "relations": {"relation_weight": 1.0},
    "embeddings": {"embedding_weight": 1.0, "distance": "mse"},
    "learned": {"layer_map": "learned", "distance": "cosine"},
}


@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_falls_by_itself(loss, taught, tmp_path):
    """With narrower heads (relations) and a narrower width (projections)."""
    train, _ = CASES["token-classification"]
    teacher, student = taught["token-classification"]
    if loss != "relations":
        student = tiny_teacher(
            tmp_path / "small", train, "token-classification", hidden_size=16, layers=2
        )
    fields = {"logits_weight": 0, "label_weight": 0, **LOSSES[loss]}
    stage = Distil(epochs=4, learning_rate=3e-3, **fields)
    context = small_context(tmp_path, train=train, teacher=teacher)
    decisions = checked(stage, student, context).steps[-1].decisions
    assert decisions["losses"][-1] < 0.9 * decisions["losses"][0]
    if loss == "relations":
        # 24 and 32 channels, of which a head of the teacher's has 16.
        assert decisions["relations"] == {"student_layer": 2, "teacher_layer": 2, "heads": 2}
        assert sorted(context.built) == ["key-2", "logits", "query-2", "value-2"]
    if loss == "learned":
        weights = decisions["layer_weights"]
        assert [round(sum(row), 2) for row in weights] == [1, 1]
        assert sorted(context.built) == ["hidden-0", "hidden-1", "hidden-2", "logits"]
    again = small_context(tmp_path / "again", train=train, teacher=teacher)
    stage.apply(student, replace(again, cache=context.cache))
    assert again.built == []


@pytest.mark.parametrize("task", CASES)
def test_a_student_with_other_pieces(task, taught, tmp_path):
    """Most names fall into letters: whole words are compared."""
    train, validation = CASES[task]
    teacher, _ = taught[task]
    other = tiny_teacher(tmp_path / "other", train[:8], task, vocabulary=70)
    other = replace(other, labels=teacher.labels)
    stage = Distil(
        epochs=3,
        learning_rate=3e-3,
        label_weight=0,
        layer_map="uniform",
        embedding_weight=0.1,
        relation_weight=0.1,
        student=StudentShape(init="random"),
    )
    context = small_context(tmp_path, train=train, validation=validation, teacher=teacher)
    decisions = checked(stage, other, context).steps[-1].decisions
    assert decisions["words"]["compared_whole"] > 100
    assert decisions["words"]["left_out"] == 0
    assert decisions["losses"][-1] < 0.9 * decisions["losses"][0]
    assert task == "text-classification" or max(decisions["scores"]) > 0.75


def test_teachers_by_language(taught, tmp_path):
    """One knows `hau` only, and one says what is wrong about `swa` with a small weight."""
    train, validation = CASES["token-classification"]
    teacher, student = taught["token-classification"]
    untrained = tiny_teacher(tmp_path / "new", train, "token-classification")
    untrained.save(tmp_path / "new")
    stage = Distil(
        epochs=2,
        learning_rate=3e-3,
        label_weight=0,
        layer_map="last",
        teachers=(
            {"model": str(tmp_path / "new"), "weight": 0.05, "sources": ["swa"]},
            {"sources": ["swa"]},
        ),
    )
    context = small_context(tmp_path, train=train, validation=validation, teacher=teacher)
    decisions = checked(stage, student, context).steps[-1].decisions
    told = [(one["examples"], one["weight"]) for one in decisions["teachers"]]
    assert told == [(60, 0.05), (60, 1.0), (60, 1.0)]
    assert max(decisions["scores"]) > 0.8
    assert sorted(context.built) == ["hidden-2"] * 3 + ["logits"] * 3
    again = replace(small_context(tmp_path / "again", train=train, teacher=teacher))
    with pytest.raises(StageError, match=r"to teach yor, and no .* from hau, swa"):
        Distil(teachers=({"sources": ["yor"]},)).apply(student, again)


def test_what_a_teacher_of_its_own_is_known_by(taught, tmp_path):
    """Where it lies does not matter, what it holds does."""
    teacher, _ = taught["token-classification"]
    for name in ("a", "b"):
        shutil.copytree(teacher.model.directory, tmp_path / name / "model")
        shutil.copytree(teacher.preprocessor, tmp_path / name / "preprocessor")
        teacher.save(tmp_path / name)
    one, two = (Distil(teachers=({"model": str(tmp_path / n)},)) for n in ("a", "b"))
    one.check_inputs()
    assert one.identity() == two.identity()
    file = tmp_path / "b" / "model" / "config.json"
    file.write_text(file.read_text() + " ")
    assert one.identity() != two.identity()
    with pytest.raises(DataError, match=r"candidate.json or a config.json"):
        Distil(teachers=({"model": str(tmp_path)},)).check_inputs()
    # A directory in Hugging Face's own form is brought into ours, once.
    plain = tmp_path / "plain"
    shutil.copytree(teacher.model.directory, plain)
    shutil.copytree(teacher.preprocessor, plain, dirs_exist_ok=True)
    train, _ = CASES["token-classification"]
    context = small_context(tmp_path, train=train[:20], teacher=teacher)
    stage = Distil(epochs=1, teachers=({"model": str(plain)},))
    assert stage.apply(teacher, context).steps[-1].decisions["losses"]


def test_an_onnx_teacher_gives_answers_only(taught, tmp_path):
    train, validation = map(two_files, CASES["text-classification"])
    teacher, student = taught["text-classification"]
    exported = Export().apply(teacher, small_context(tmp_path / "onnx"))
    exported.save(exported.model.directory.parent)
    shutil.copytree(teacher.preprocessor, exported.model.directory.parent / "preprocessor")
    uses = ({"model": str(exported.model.directory.parent)},)
    context = small_context(tmp_path, train=train, teacher=teacher)
    answers = checked(Distil(epochs=1, teachers=uses), student, context)
    other = small_context(tmp_path / "torch", train=train, teacher=teacher)
    expected = Distil(epochs=1).apply(student, other)
    losses = [one.steps[-1].decisions["losses"] for one in (answers, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    fresh = tiny_teacher(tmp_path / "fresh", train, "text-classification")
    gaps = []
    for name, some in (("a", uses), ("b", ())):
        stage = Distil(epochs=2, learning_rate=1e-9, balance=Balance(lagging=4), teachers=some)
        given = replace(other, validation=validation, scratch=tmp_path / name)
        gaps.append(stage.apply(fresh, given).steps[-1].decisions["balance"]["gap"])
    assert gaps[0] == gaps[1] and max(gaps[0].values()) > 0
    with pytest.raises(StageError, match=r"ONNX model, .* set hidden_weight and relation_weight"):
        Distil(teachers=uses, relation_weight=1, layer_map="last").apply(student, context)
    # A session that the teacher wants is the one that it is opened with: this one cannot be.
    wants = SessionSettings(config_entries=(("session.load_model_format", "ORT"),))
    settled = replace(exported, model=replace(exported.model, session=wants))
    settled.save(exported.model.directory.parent)
    afresh = small_context(tmp_path / "afresh", train=train, teacher=teacher)
    with pytest.raises(StageError, match="ONNX Runtime cannot load this file"):
        Distil(epochs=1, teachers=uses).apply(student, afresh)


def test_a_fresh_student(taught, tmp_path):
    train, validation = CASES["token-classification"]
    teacher, _ = taught["token-classification"]
    shape = StudentShape(layers=2, hidden_size=16, heads=2, intermediate_size=24, init="random")
    stage = Distil(epochs=4, learning_rate=3e-3, layer_map="uniform", student=shape)
    context = small_context(tmp_path, train=train, validation=validation, teacher=teacher)
    result = checked(stage, teacher, context)
    config = json.loads((result.model.directory / "config.json").read_text())
    found = [config[name] for name in ("num_hidden_layers", "hidden_size", "intermediate_size")]
    assert found == [2, 16, 24]
    assert result.steps[-1].decisions["layer_pairs"] == [[0, 1], [1, 2]]
    assert max(result.steps[-1].decisions["scores"]) > 0.8


def test_text_without_labels(taught, tmp_path):
    train, validation = CASES["token-classification"]
    teacher, student = taught["token-classification"]
    file = tmp_path / "more.txt"
    more = tagged_examples(50, 9)
    file.write_text("\n".join(" ".join(words_of(e)) for e in more), encoding="utf-8")
    stage = Distil(epochs=2, learning_rate=3e-3, layer_map="uniform", transfer={"corpus": [file]})
    stage.check_inputs()
    assert str(file) not in json.dumps(stage.identity())
    context = small_context(tmp_path, train=train[:10], validation=validation, teacher=teacher)
    decisions = checked(stage, student, context).steps[-1].decisions
    assert 40 <= decisions["transfer_examples"] <= 50
    batches = -(-(10 + decisions["transfer_examples"]) // 16)
    assert context.said[-1][:2] == (2 * batches, 2 * batches)
    names = ["hidden-0", "hidden-1", "hidden-2", "logits"]
    assert sorted(context.built) == sorted(names * 2)
    assert stage._row_weights(np.arange(4), 2) is None
    light = Distil(transfer=stage.transfer, transfer_weight=0.25)
    assert light._row_weights(np.array([0, 1, 2, 2, 3]), 2).tolist() == [1, 1, 0.25, 0.25, 0.25]
    # Another text leaves what was said of the training examples as it is.
    file.write_text("\n".join(" ".join(words_of(e)) for e in more[:20]), encoding="utf-8")
    again = small_context(tmp_path / "again", train=train[:10], teacher=teacher)
    stage.apply(student, replace(again, cache=context.cache))
    assert sorted(again.built) == names
    file.unlink()
    with pytest.raises(DataError, match=r"more\.txt"):
        stage.check_inputs()


def test_two_phases(taught, tmp_path):
    """First the inner states, then the answers, from where the first ended."""
    train, validation = CASES["token-classification"]
    teacher, student = taught["token-classification"]
    fields = {"train": train, "validation": validation, "teacher": teacher}
    inner = Distil(
        epochs=2, learning_rate=3e-3, layer_map="uniform", logits_weight=0, label_weight=0
    )
    first = checked(inner, student, small_context(tmp_path / "1", **fields))
    # With steps of no length the second stays where it begins.
    answers = Distil(epochs=1, learning_rate=1e-12)
    second = checked(answers, first, small_context(tmp_path / "2", **fields))
    assert len(second.steps) == len(student.steps) + 2
    assert second.steps[-1].decisions["scores"] == [max(first.steps[-1].decisions["scores"])]
    weights = [load_module(model.model).state_dict() for model in (first, second, student)]
    name = "bert.encoder.layer.0.output.dense.weight"
    torch.testing.assert_close(weights[0][name], weights[1][name])
    assert (weights[0][name] - weights[2][name]).abs().max() > 1e-3


def test_broken_off_and_resumed(taught, tmp_path):
    """What is trained beside the student (projections, a mixture) is resumed with it."""
    train, validation = CASES["token-classification"]
    teacher, _ = taught["token-classification"]
    small = tiny_teacher(tmp_path / "s", train, "token-classification", hidden_size=16, layers=2)
    stage = Distil(epochs=3, learning_rate=3e-3, layer_map="learned", embedding_weight=0.5)
    fields = {"train": train, "validation": validation, "teacher": teacher}
    whole = stage.apply(small, small_context(tmp_path / "whole", **fields))

    class KilledError(Exception):
        pass

    def progress(done, total, what):
        if what.startswith("epoch 3"):
            raise KilledError

    broken = small_context(tmp_path / "broken", progress=progress, **fields)
    with pytest.raises(KilledError):
        stage.apply(small, broken)
    resumed = small_context(tmp_path / "broken", **fields)
    again = stage.apply(small, resumed)
    assert len(resumed.said) == 8
    assert directory_digests(again.model.directory) == directory_digests(whole.model.directory)
    assert again.steps == whole.steps


def test_who_cannot_teach_whom(taught, tmp_path):
    train, _ = CASES["token-classification"]
    teacher, student = taught["token-classification"]

    def refused(message, stage=Distil(epochs=1), **fields):  # noqa: B008
        context = small_context(tmp_path / "x", train=train, teacher=teacher)
        shutil.rmtree(context.scratch)
        with pytest.raises(StageError, match=message):
            stage.apply(student, replace(context, **fields))
        assert context.built == []

    refused("needs a teacher", teacher=None)
    refused("task is text-classification", teacher=taught["text-classification"][0])
    refused("labels", teacher=replace(teacher, labels=teacher.labels[::-1]))
    refused("layer 0 with the teacher's 9", Distil(layer_map=((0, 9),)))
    refused(
        r"relation_heads 3 does not divide the student's width \d+ and the teacher's 32",
        Distil(relation_weight=1, relation_heads=3),
    )
    refused("relation_layer is 3; .* 0 to 2", Distil(relation_weight=1, relation_layer=3))
    refused("5 heads do not divide the hidden size 32", Distil(student=StudentShape(heads=5)))
    shallow = tiny_teacher(tmp_path / "one", train, "token-classification", layers=1)
    refused("has only one", Distil(layer_map="learned"), teacher=shallow)
    for message, fields in (
        ("listens to no teacher", {"logits_weight": 0}),
        ("listens to no teacher", {"logits_weight": 0, "layer_map": "last", "hidden_weight": 0}),
        ("and there is none; add layer_map", {"hidden_weight": 2}),
        ("mixes normalised states", {"layer_map": "learned", "distance": "mse"}),
        ("has no pair", {"layer_map": ()}),
        ("must divide hidden_size", {"student": {"hidden_size": 16, "heads": 3}}),
    ):
        with pytest.raises(ValidationError, match=message):
            Distil(**fields)
