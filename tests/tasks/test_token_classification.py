"""Tags: windows join to the sentence's words, and every word gets an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecompress.errors import DataError, StageError
from edgecompress.processors import TextProcessor
from edgecompress.tasks import Rows, task
from edgecompress.tasks.rows import IGNORED
from edgecompress.tasks.token_classification import windows
from edgecompress.texts import split_words, tags_of, text_example, words_example, words_of

LABELS = ("O", "B-LOC", "B-PER", "I-PER")
TASK = task("token-classification")


def oracle(encoded: Rows, classes: int = len(LABELS)) -> list[np.ndarray]:
    """Logits of a model that knows the labels."""
    return [np.eye(classes)[np.maximum(row.target["labels"], 0)] * 9.0 for row in encoded]


def test_labels_stand_at_first_pieces(preprocessor: TextProcessor) -> None:
    words, tags = ("Rais", "wa", "Kenya", "qqq"), ("O", "O", "B-LOC", "B-PER")
    encoded = TASK.rows([words_example(words=words, tags=tags)], preprocessor, LABELS)
    assert len(encoded) == 1
    at = encoded.rows[0].place["positions"]
    assert encoded.rows[0].target["labels"][at].tolist() == [0, 0, 1, 2]
    elsewhere = np.delete(encoded.rows[0].target["labels"], at)
    assert set(elsewhere.tolist()) == {IGNORED}
    assert encoded.rows[0].feed["input_ids"][0] == 2
    assert encoded.rows[0].feed["input_ids"][-1] == 3


def test_words_without_pieces_are_outside(preprocessor: TextProcessor) -> None:
    example = words_example(words=("\u00a0", "Kenya", ""), tags=("B-PER", "B-LOC", "O"))
    encoded = TASK.rows([example], preprocessor, LABELS)
    answers = TASK.decode(oracle(encoded), encoded)
    assert answers.labels == (("O", "B-LOC", "O"),)
    assert answers.confidence[0][0] == 1.0
    nothing = TASK.rows([words_example(words=("\u200b",)), words_example(())], preprocessor, LABELS)
    assert len(nothing) == 0
    assert TASK.decode([], nothing).labels == (("O",), ())


def test_long_sentences_are_windows_of_even_length(
    make_preprocessor: Callable[[int], TextProcessor],
) -> None:
    short = make_preprocessor(12)
    examples = [words_example(words=("Kenya",) * n, tags=("B-LOC",) * n) for n in (1, 50, 101)]
    encoded = TASK.rows(examples, short, LABELS)
    assert encoded.lengths.max() <= 12
    assert encoded.example.tolist() == sorted(encoded.example.tolist())
    answers = TASK.decode(oracle(encoded), encoded)
    assert answers.labels == tuple(tags_of(example) for example in examples)


def test_a_word_longer_than_a_window_still_has_its_answer(
    make_preprocessor: Callable[[int], TextProcessor],
) -> None:
    short = make_preprocessor(6)
    example = words_example(words=("wa", "zkzkzkzkzkzkzk", "wa"), tags=("O", "B-PER", "B-LOC"))
    encoded = TASK.rows([example], short, LABELS)
    assert encoded.lengths.max() <= 6
    assert TASK.decode(oracle(encoded), encoded).labels == (tags_of(example),)


@settings(deadline=None)
@given(
    pieces=st.lists(st.integers(1, 9), max_size=60),
    capacity=st.integers(1, 20),
)
def test_windows_hold_every_word_once(pieces: list[int], capacity: int) -> None:
    first = np.array([i == 0 for count in pieces for i in range(count)], dtype=bool)
    found = windows(first, capacity)
    assert all(0 < stop - start <= capacity for start, stop in found)
    assert all(first[start] for start, _ in found)
    assert all(a[1] <= b[0] for a, b in pairwise(found))
    assert sum(int(first[start:stop].sum()) for start, stop in found) == len(pieces)
    if max(pieces, default=0) <= capacity:  # no piece is lost
        assert sum(stop - start for start, stop in found) == len(first)


@settings(deadline=None)
@given(
    sentences=st.lists(
        st.lists(
            st.tuples(
                st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
                st.sampled_from(LABELS),
            ),
            max_size=12,
        ),
        max_size=4,
    )
)
def test_every_word_of_any_text_is_answered(
    sentences: list[list[tuple[str, str]]], preprocessor: TextProcessor
) -> None:
    examples = [
        words_example(words=tuple(w for w, _ in pairs), tags=tuple(t for _, t in pairs))
        for pairs in sentences
    ]
    short = replace(preprocessor, max_length=7)
    encoded = TASK.rows(examples, short, LABELS)
    answers = TASK.decode(oracle(encoded), encoded)
    assert [len(labels) for labels in answers.labels] == [len(words_of(e)) for e in examples]
    read = [set() for _ in examples]
    for row, number in enumerate(encoded.example.tolist()):
        read[number].update(encoded.rows[row].place["words"].tolist())
    for number, example in enumerate(examples):
        for word, tag in enumerate(tags_of(example)):
            expected = tag if word in read[number] else "O"
            assert answers.labels[number][word] == expected


def test_feed_pads_on_the_right(preprocessor: TextProcessor) -> None:
    examples = [words_example(words=("Kenya", "wa", "Rais")), words_example(words=("wa",))]
    encoded = TASK.rows(examples, preprocessor, LABELS)
    names = ["input_ids", "attention_mask", "token_type_ids", "position_ids"]
    feed = encoded.batch([1, 0], names)
    length = max(encoded.lengths)
    assert list(feed) == names
    assert all(value.shape == (2, length) and value.dtype == np.int64 for value in feed.values())
    assert feed["attention_mask"].sum(1).tolist() == encoded.lengths[[1, 0]].tolist()
    inside = feed["attention_mask"].astype(bool)
    assert feed["input_ids"][0][inside[0]].tolist() == encoded.rows[1].feed["input_ids"].tolist()
    assert set(feed["input_ids"][~inside].tolist()) <= {preprocessor.pad_id}
    targets = encoded.targets([1, 0])["labels"]
    assert targets.shape == (2, length)
    assert set(targets.ravel().tolist()) == {IGNORED}  # the examples bear no tags
    with pytest.raises(DataError, match="pixel_values"):
        encoded.batch([0], ["pixel_values"])


def test_wrong_labels_are_named(preprocessor: TextProcessor) -> None:
    bad = words_example(words=("wa",), tags=("B-MISC",), source="hau")
    with pytest.raises(DataError, match=r"'B-MISC' \(in hau\) is none of the model's: O, B-LOC"):
        TASK.rows([bad], preprocessor, LABELS)
    with pytest.raises(DataError, match="2 words and 1 tags"):
        TASK.rows([words_example(words=("a", "b"), tags=("O",))], preprocessor, LABELS)
    with pytest.raises(DataError, match="no tags"):
        TASK.label_names([text_example(text="x", label="y")])
    with pytest.raises(ValueError, match="arrays of outputs"):
        TASK.decode([], TASK.rows([words_example(words=("wa",))], preprocessor, LABELS))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_model_is_named(preprocessor: TextProcessor, value: float) -> None:
    encoded = TASK.rows([words_example(words=("wa",))], preprocessor, LABELS)
    logits = oracle(encoded)
    logits[0][1, 2] = value
    with pytest.raises(StageError, match="NaN or infinite logits"):
        TASK.decode(logits, encoded)


def test_label_names_begin_with_outside() -> None:
    examples = [words_example(words=("a", "b"), tags=("I-PER", "B-LOC"))]
    assert TASK.label_names(examples) == ("O", "B-LOC", "I-PER")


def test_typed_text_is_split_as_the_files_are() -> None:
    text = "Al-Barnawi (shugaba), ya ce: “A'a!” $3.5\u00a0ẹ̀kọ́"
    words = [text[start:stop] for start, stop in split_words(text)]
    assert words == [
        *("Al-Barnawi", "(", "shugaba", ")", ",", "ya", "ce", ":"),
        *("“", "A'a", "!", "”", "$3.5", "ẹ̀kọ́"),
    ]
    assert words_of(TASK.ask(text)) == tuple(words)
    assert split_words("  \n") == ()


@settings(deadline=None)
@given(st.text())
def test_split_words_loses_nothing_but_blanks(text: str) -> None:
    spans = split_words(text)
    assert all(start < stop for start, stop in spans)
    joined = "".join(text[start:stop] for start, stop in spans)
    assert joined == "".join(character for character in text if not character.isspace())
