"""Evaluate: answers of the target against the teacher's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from helpers import small_context, tiny_teacher

from edgecompress.errors import DataError
from edgecompress.stages.evaluate import Evaluate
from edgecompress.texts import text_example
from edgecompress.values import Candidate, find

TEXTS = tuple(
    text_example(text=text, label=label, source=label)
    for text, label in (
        ("Sannu ina", "hau"),
        ("habari asubuhi", "swa"),
        ("habari", "swa"),
        ("ina sannu sannu", "hau"),
    )
)


def test_a_candidate_against_its_teacher(classifier: Candidate, tmp_path: Path) -> None:
    teacher = tiny_teacher(tmp_path / "teacher", TEXTS, "text-classification")
    context = small_context(tmp_path, validation=TEXTS, teacher=teacher)
    found = Evaluate().observe(classifier, context)
    accuracy = find(found, "accuracy", target="local", split="validation")
    assert accuracy is not None
    assert accuracy.value == 1
    assert find(found, "accuracy", slice="file:swa") is not None
    assert find(found, "agreement") is not None
    assert any(m.metric.endswith("_drop") and m.interval for m in found)
    built = len(context.built)
    assert Evaluate().observe(classifier, context) == found
    assert len(context.built) == built  # nobody was asked a second time
    own = find(Evaluate().observe(teacher, context), "agreement")
    assert own is not None
    assert own.value == 1
    assert len(context.built) == built


def test_no_task(classifier: Candidate, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="evaluate needs a task"):
        Evaluate().observe(
            replace(classifier, task=None), small_context(tmp_path, validation=TEXTS)
        )


def test_no_examples(classifier: Candidate, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no examples"):
        Evaluate().observe(classifier, small_context(tmp_path))
