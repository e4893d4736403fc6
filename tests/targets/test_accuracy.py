"""Answers from a fresh process are read and scored like those that are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import labelled_texts, small_context, tiny_teacher

from edgecompress.errors import DataError
from edgecompress.targets.accuracy import accuracy_measurements, answers, cached_answers
from edgecompress.targets.local import Local
from edgecompress.tasks import Answers, task
from edgecompress.texts import tags_of, text_example, words_example, words_of
from edgecompress.values import Candidate, find

SENTENCES = (
    words_example(
        words=("Muhammadu", "Buhari", "na", "Abuja"), tags=("B-PER", "I-PER", "O", "B-LOC")
    ),
    words_example(words=("Ikeja",), tags=("B-PER",)),
    words_example(
        words=("na",) * 30 + ("Abuja",), tags=("O",) * 30 + ("B-LOC",)
    ),  # several windows
)


def test_every_word_is_answered_once(tagger: Candidate) -> None:
    found = answers(tagger, SENTENCES, Local())
    expected = (tags_of(SENTENCES[0]), ("B-LOC",), tags_of(SENTENCES[2]))
    assert found.labels == expected


def test_one_label_per_text(classifier: Candidate) -> None:
    texts = [
        text_example(text="Sannu ina", label="hau"),
        text_example(text="habari asubuhi", label="swa"),
    ]
    assert answers(classifier, texts, Local()).labels == (("hau",), ("swa",))


def test_pytorch_answers_as_pytorch_does(tmp_path: Path) -> None:
    import torch

    from edgecompress.processors import TextProcessor
    from edgecompress.surgery.model import load_module

    examples = labelled_texts(6)
    teacher = tiny_teacher(tmp_path / "teacher", examples, "text-classification")
    assert teacher.preprocessor is not None
    found = answers(teacher, examples, Local())
    kind, preprocessor = task("text-classification"), TextProcessor.load(teacher.preprocessor)
    encoded = kind.rows(examples, preprocessor, teacher.labels)
    module = load_module(teacher.model)
    with torch.inference_mode():
        logits = [
            module(
                **{
                    name: torch.from_numpy(value)
                    for name, value in encoded.batch([row], preprocessor.input_names).items()
                }
            )
            .logits[0]
            .numpy()
            for row in range(len(encoded))
        ]
    expected = kind.decode(logits, encoded)
    assert found.labels == expected.labels
    for one, other in zip(found.confidence, expected.confidence, strict=True):
        assert np.allclose(one, other, atol=1e-6)


def test_answers_are_asked_once(tagger: Candidate, tmp_path: Path) -> None:
    context = small_context(tmp_path)
    first = cached_answers(context, tagger, SENTENCES, Local())
    again = cached_answers(context, tagger, SENTENCES, Local())
    assert len(context.built) == 1
    assert first.labels == again.labels
    for one, other in zip(first.confidence, again.confidence, strict=True):
        assert np.array_equal(one, other)
    cached_answers(context, tagger, SENTENCES[:2], Local())
    assert len(context.built) == 2


def test_labels_do_not_change_the_answers(tagger: Candidate, tmp_path: Path) -> None:
    """The model is not shown them, so that other labels find the same answers in the cache."""
    context = small_context(tmp_path)
    cached_answers(context, tagger, SENTENCES, Local())
    bare = [words_example(words=words_of(example)) for example in SENTENCES]
    cached_answers(context, tagger, bare, Local())
    assert len(context.built) == 1


def test_nothing_to_evaluate_on(tagger: Candidate) -> None:
    with pytest.raises(DataError, match="no examples to evaluate on"):
        answers(tagger, (), Local())


def test_the_loss_is_measured_of_every_file_and_label(tagger: Candidate) -> None:
    kind = task("token-classification")
    examples = [replace(one, source=name) for one, name in zip(SENTENCES, "abb", strict=True)]
    right = Answers(
        tuple(tags_of(one) for one in examples),
        tuple(np.ones(len(tags_of(one))) for one in examples),
    )
    wrong = (right.labels[0], ("O",), right.labels[2])
    given = (kind, replace(right, labels=wrong), right, examples, tagger.labels, "test", "local", 7)
    found = accuracy_measurements(*given)
    lost = {one.slice: one for one in found if one.metric == "f1_drop" and one.slice}
    assert {name: round(one.value, 3) for name, one in lost.items()} == {
        "file:a": 0.0,
        "file:b": round(1 - 2 / 3, 3),
        "label:LOC": 0.0,
        "label:PER": round(1 - 2 / 3, 3),
    }
    assert all(one.interval and one.interval[0] <= one.value for one in lost.values())
    assert lost["label:PER"].samples == 2
    texts = [text_example(text=one, label=one, source="c") for one in ("x", "y", "y")]
    said = Answers((("x",), ("y",), ("x",)), (np.ones(1),) * 3)
    taught = Answers((("x",), ("y",), ("y",)), (np.ones(1),) * 3)
    kind = task("text-classification")
    found = accuracy_measurements(kind, said, taught, texts, ("x", "y"), "test", "local", 7)
    lost = {one.slice: one for one in found if one.metric == "f1_drop"}
    assert round(lost["label:y"].value, 3) == round(1 - 2 / 3, 3)
    assert round(lost["label:x"].value, 3) == round(1 - 2 / 3, 3)


def test_scores_and_drop(tagger: Candidate) -> None:
    kind = task("token-classification")
    right = Answers(
        tuple(tags_of(example) for example in SENTENCES),
        tuple(np.ones(len(tags_of(example))) for example in SENTENCES),
    )
    mine = answers(tagger, SENTENCES, Local())
    found = accuracy_measurements(
        kind, mine, right, SENTENCES, tagger.labels, "validation", "local", 7
    )
    drop, f1 = find(found, "f1_drop"), find(found, "f1", target="local", split="validation")
    assert drop is not None
    assert f1 is not None
    assert drop.value == pytest.approx(1 - f1.value)
    assert drop.interval is not None
    assert drop.interval[0] <= drop.value <= drop.interval[1]
    agreed = find(found, "agreement")
    assert agreed is not None
    assert agreed.value == pytest.approx(1 - 1 / 36)
    assert all(m.unit == "fraction" and m.split == "validation" for m in found)
    alone = accuracy_measurements(
        kind, mine, None, SENTENCES, tagger.labels, "validation", "local", 7
    )
    assert find(alone, "agreement") is None
    assert find(alone, "f1") == f1
