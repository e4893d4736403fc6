"""Answers that flip: which, how many, for better or worse, by the real runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lookup_models import SPECIALS, TAGS, WORD_TAGS, write_model

from edgecompress.comparison.flips import ask, compare_answers, in_words, mcnemar, read_examples
from edgecompress.errors import DataError
from edgecompress.runtime import load
from edgecompress.texts import text_example, words_of
from edgecompress.values import Candidate, OnnxModel

MakeBundle = Callable[..., Path]

CONLL = "\n".join(
    [
        "Muhammadu B-PER",
        "Buhari I-PER",
        "ya O",
        "",
        "Abuja B-LOC",
        "",
        "Ikeja B-PER",
        "",
        "ya O",
        "",
    ]
)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, tagger: Candidate) -> Candidate:
    """The tagger, but it does not know Abuja, and takes Ikeja for a person."""
    answers = {**WORD_TAGS, "abuja": "O", "ikeja": "B-PER"}
    table = np.zeros((len(SPECIALS) + len(answers), len(TAGS)), dtype=np.float32)
    table[: len(SPECIALS), 0] = 3.0
    for number, tag in enumerate(answers.values(), start=len(SPECIALS)):
        table[number, TAGS.index(tag)] = 4.0
    file = tmp_path_factory.mktemp("other") / "model" / "model.onnx"
    write_model(file, table, pooled=False)
    return replace(tagger, model=OnnxModel(file))


@pytest.fixture
def bundles(tagger: Candidate, other: Candidate, make_bundle: MakeBundle) -> tuple[Path, Path]:
    return make_bundle(tagger, "old"), make_bundle(other, "new")


def test_flips_are_told_by_what_they_cost(tmp_path: Path, bundles: tuple[Path, Path]) -> None:
    file = tmp_path / "test.txt"
    file.write_text(CONLL, encoding="utf-8")
    examples = read_examples([file], "token-classification")
    assert [words_of(one) for one in examples] == [
        ("Muhammadu", "Buhari", "ya"), ("Abuja",), ("Ikeja",), ("ya",),
    ]  # fmt: skip
    found = compare_answers(
        "token-classification", examples, *(ask(load(one), examples) for one in bundles)
    )
    assert (found.asked, found.labelled, len(found.flips), found.share) == (4, 4, 2, 0.5)
    assert [(one.text, one.verdict) for one in found.flips] == [
        ("Abuja", "right to wrong"),
        ("Ikeja", "wrong to right"),
    ]
    assert in_words(found.flips[0].old) == "Abuja LOC"
    assert in_words(found.flips[0].new) == "nothing"
    # Spans: 3 known; the old finds 3 with 2 right, the new 2 with 2 right.
    assert found.metric == "f1"
    assert found.old_score == pytest.approx(2 * 2 / (3 + 3))
    assert found.new_score == pytest.approx(2 * 2 / (2 + 3))
    assert found.p_value == 1.0
    document = found.to_json()
    assert document["right_to_wrong"] == document["wrong_to_right"] == 1
    assert document["flips"][0]["known"] == [
        {"text": "Abuja", "label": "LOC", "first_word": 0, "last_word": 0}
    ]


def test_texts_without_labels_flip_without_a_verdict(
    tmp_path: Path, bundles: tuple[Path, Path]
) -> None:
    for name, text in (("a.txt", "Sannu Abuja\n\nya je\n"), ("b.txt", "Abuja da Ikeja\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    examples = read_examples(files, "token-classification")
    found = compare_answers(
        "token-classification", examples, *(ask(load(one), examples) for one in bundles)
    )
    assert (found.asked, found.labelled, found.metric, found.p_value) == (3, 0, None, None)
    assert {one.verdict for one in found.flips} == {""}
    assert [(one.source, one.asked, one.flipped) for one in found.parts] == [
        ("a.txt", 2, 1),
        ("b.txt", 1, 1),
    ]


def test_a_classifier_is_compared_by_its_label(
    tmp_path: Path, classifier: Candidate, make_bundle: MakeBundle
) -> None:
    file = tmp_path / "test.tsv"
    file.write_text("tweet\tlabel\nsannu ina\thau\nhabari\thau\n", encoding="utf-8")
    examples = read_examples([file], "text-classification", columns={"text": "tweet"})
    bundle = make_bundle(classifier)
    found = compare_answers(
        "text-classification", examples, *(ask(load(bundle), examples) for _ in range(2))
    )
    assert (found.flips, found.metric, found.old_score) == ((), "accuracy", 0.5)
    assert found.p_value == 1.0


@pytest.mark.parametrize(
    ("name", "text", "task", "said"),
    [
        ("a.tsv", "txt\tlabel\na\tb\n", "text-classification", "give --columns text=NAME"),
        ("a.csv", 'text,label\n"a,b\n', "text-classification", "a.csv:2: no row of a table"),
        ("a.jsonl", '{"text": 3}', "text-classification", "a.jsonl:1: the column text: expected"),
        ("a.txt", "\n \n", "text-classification", "holds no text"),
        ("a.txt", "", "text-classification", "the file is empty"),
        ("a.txt", "Abuja B-LOC\nmore than two\n", "token-classification", "a.txt:2: expected"),
    ],
)
def test_files_of_another_form_are_named(
    tmp_path: Path, name: str, text: str, task: str, said: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read_examples([tmp_path / name], task)


def test_a_format_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("Abuja B-LOC\n", encoding="utf-8")
    found = read_examples([tmp_path / "a.tsv"], "token-classification", "text")
    assert found == (text_example(text="Abuja B-LOC"),)


def test_mcnemar_is_the_exact_sign_test() -> None:
    # By hand: of 10 that changed sides 1 or fewer one way, twice (1 + 10) / 1024.
    assert mcnemar(1, 9) == mcnemar(9, 1) == pytest.approx(22 / 1024)
    assert mcnemar(0, 0) == mcnemar(4, 4) == 1.0
