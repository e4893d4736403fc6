"""Figures equal those of seqeval and scikit-learn; counts add up to them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecompress.tasks import Answers, Score, task
from edgecompress.tasks.entities import scored_spans
from edgecompress.tasks.metrics import (
    ACCURACY,
    F1,
    calibration_error,
    f1_of_counts,
    share_of_counts,
)
from edgecompress.tasks.scoring import counts_of
from edgecompress.texts import text_example, words_example

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "I-DATE")
NER, TEXT = task("token-classification"), task("text-classification")

tagged = st.lists(
    st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), max_size=8),
    min_size=1,
    max_size=8,
)


def answers_of(labels: list[list[str]]) -> Answers:
    confidence = tuple(np.full(len(sentence), 0.75) for sentence in labels)
    return Answers(tuple(map(tuple, labels)), confidence)


def value(scores: list[Score], metric: str, slice: str | None = None) -> float:
    (found,) = [s.value for s in scores if s.metric == metric and s.slice == slice]
    return found


@settings(deadline=None)
@given(tagged)
def test_span_counts_add_up_to_seqeval(pairs: list[list[tuple[str, str]]]) -> None:
    from seqeval.metrics import classification_report, f1_score, precision_score, recall_score

    gold = [[a for a, _ in sentence] for sentence in pairs]
    said = [[b for _, b in sentence] for sentence in pairs]
    examples = [
        words_example(words=("w",) * len(tags), tags=tuple(tags), source="x") for tags in gold
    ]
    scores = NER.score(answers_of(said), examples, TAGS)
    counts = counts_of(F1, answers_of(said), examples)
    assert counts is not None and counts.shape[0] == len(pairs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = f1_score(gold, said)
        assert f1_of_counts(counts.sum(0)) == pytest.approx(expected) if pairs else True
        assert value(scores, "f1") == pytest.approx(expected)
        assert value(scores, "f1", "file:x") == pytest.approx(expected)
        assert value(scores, "precision") == pytest.approx(precision_score(gold, said))
        assert value(scores, "recall") == pytest.approx(recall_score(gold, said))
        if counts.sum():
            report = classification_report(gold, said, output_dict=True)
            for kind, row in report.items():
                if "avg" not in kind and row["support"]:
                    found = value(scores, "f1", f"label:{kind}")
                    assert found == pytest.approx(row["f1-score"])


@settings(deadline=None)
@given(st.lists(st.text("BIESOLU.-XP_é", min_size=1, max_size=5), max_size=12))
def test_spans_of_strange_tags_are_those_of_seqeval(tags: list[str]) -> None:
    from seqeval.metrics.sequence_labeling import get_entities

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert scored_spans(tags) == get_entities(tags)


def test_slices_tell_files_and_labels_apart() -> None:
    examples = [
        words_example(words=("a", "b"), tags=("B-PER", "O"), source="hau"),
        words_example(words=("a", "b"), tags=("B-LOC", "I-LOC"), source="swa"),
    ]
    scores = NER.score(answers_of([["B-PER", "O"], ["O", "B-LOC"]]), examples, TAGS)
    assert value(scores, "f1", "file:hau") == 1
    assert value(scores, "f1", "file:swa") == 0
    assert value(scores, "f1", "label:PER") == 1
    assert value(scores, "f1", "label:LOC") == 0
    assert value(scores, "f1") == pytest.approx(0.5)
    assert value(scores, "ece") == pytest.approx(abs(0.75 - 0.5))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=1))
def test_classes_equal_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    gold, said = [a for a, _ in pairs], [b for _, b in pairs]
    examples = [text_example(text="t", label=label, source="x") for label in gold]
    answers = answers_of([[label] for label in said])
    scores = TEXT.score(answers, examples, tuple("abcd"))
    held = sorted(set(gold))
    assert value(scores, "accuracy") == pytest.approx(accuracy_score(gold, said))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        macro = f1_score(gold, said, labels=held, average="macro")
        each = f1_score(gold, said, labels=held, average=None)
    assert value(scores, "macro_f1") == pytest.approx(macro)
    assert value(scores, "macro_f1", "file:x") == pytest.approx(macro)
    for label, expected in zip(held, each, strict=True):
        assert value(scores, "f1", f"label:{label}") == pytest.approx(expected)
    counts = counts_of(ACCURACY, answers, examples)
    assert counts is not None
    assert share_of_counts(counts.sum(0)) == pytest.approx(value(scores, "accuracy"))


def test_no_examples_score_nothing() -> None:
    assert value(NER.score(answers_of([]), [], TAGS), "f1") == 0
    assert value(TEXT.score(answers_of([]), [], ("a",)), "accuracy") == 0


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.95, 0.95, 0.55, 0.55])
    correct = np.array([True, True, True, False])
    assert calibration_error(confidence, correct) == pytest.approx((2 * 0.05 + 2 * 0.05) / 4)
    assert calibration_error(np.ones(3), np.ones(3, dtype=bool)) == 0
    assert calibration_error(np.zeros(0), np.zeros(0, dtype=bool)) == 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1))
def test_calibration_error_is_a_fraction(pairs: list[tuple[float, bool]]) -> None:
    confidence = np.array([a for a, _ in pairs])
    correct = np.array([b for _, b in pairs])
    error = calibration_error(confidence, correct)
    assert 0 <= error <= 1
    gap = abs(confidence.mean() - correct.mean())
    assert error >= gap - 1e-9  # bins can only add to the overall gap
