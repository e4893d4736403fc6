"""Distillation: a pruned student learns from the teacher, whose outputs are computed once."""

import shutil
from dataclasses import replace

import pytest
from helpers import labelled_texts, small_context, tagged_examples, tiny_teacher
from pydantic import ValidationError

from edgecompress.errors import StageError
from edgecompress.stage import check_stage
from edgecompress.stages.distil import Distil
from edgecompress.stages.finetune import Finetune
from edgecompress.stages.prune.layers import Layers
from edgecompress.stages.prune.structured import Structured
from edgecompress.training.layer_maps import layer_pairs
from edgecompress.values import directory_digests

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
    digests = []
    for run in ("a", "b"):
        fields = {"train": train, "validation": validation, "teacher": teacher}
        context = small_context(tmp_path / run, **fields)
        result = check_stage(stage, student, context)
        digests.append(directory_digests(result.model.directory))
    decisions = result.steps[-1].decisions
    assert decisions["layer_pairs"] == [[0, 0], [1, 1], [2, 2]]
    assert decisions["losses"][-1] < decisions["losses"][0]
    assert max(decisions["scores"]) > 0.9
    assert digests[0] == digests[1]


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
    Distil(epochs=1, hidden_weight=0).apply(shorter, replace(again, scratch=tmp_path / "s4"))
    assert again.built == ["hidden-1"]


def test_a_narrower_student_is_projected(taught, tmp_path):
    train, _ = CASES["text-classification"]
    teacher, _ = taught["text-classification"]
    small = tiny_teacher(tmp_path / "small", train, "text-classification", hidden_size=16, layers=2)
    context = small_context(tmp_path, train=train, teacher=teacher)
    result = check_stage(Distil(epochs=2, layer_map=((0, 0), (1, 2))), small, context)
    assert result.steps[-1].decisions["layer_pairs"] == [[0, 0], [1, 2]]
    assert "beside" not in (result.model.directory / "config.json").read_text()


@pytest.mark.parametrize(
    ("ours", "its", "expected"),
    [(3, 6, (1, 3, 5)), (4, 6, (1, 2, 4, 5)), (6, 6, (0, 1, 2, 3, 4, 5)), (1, 4, (3,))],
)
def test_uniform_map(ours, its, expected):
    assert layer_pairs("uniform", ours, its) == tuple(enumerate(expected))


def test_who_cannot_teach_whom(taught, tmp_path):
    train, _ = CASES["token-classification"]
    teacher, student = taught["token-classification"]

    def refused(message, stage=Distil(epochs=1), **fields):  # noqa: B008
        context = small_context(tmp_path / "x", train=train, teacher=teacher)
        shutil.rmtree(context.scratch)
        with pytest.raises(StageError, match=message):
            stage.apply(student, replace(context, **fields))

    refused("needs a teacher", teacher=None)
    refused("task is text-classification", teacher=taught["text-classification"][0])
    refused("labels", teacher=replace(teacher, labels=teacher.labels[::-1]))
    refused("layer 0 with the teacher's 9", Distil(layer_map=((0, 9),)))
    with pytest.raises(ValidationError, match="listens to no teacher"):
        Distil(logits_weight=0, hidden_weight=0)
