"""What answers every example alike: counted in one split, scored on another like any model."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trained_tokenizers import sentences, write

from edgecompress.processors import TextProcessor
from edgecompress.tasks import Answers, task, task_names
from edgecompress.tasks.masked_lm import hidden_words
from edgecompress.texts import running_text, text_example, words_example
from edgecompress.values import Example

LABELS = st.lists(st.sampled_from(("neg", "neu", "pos", "mixed")), min_size=1, max_size=60)
TAGGED = st.lists(
    st.lists(st.sampled_from(("O", "B-PER", "I-PER", "B-LOC")), min_size=1, max_size=6),
    min_size=1,
    max_size=20,
)


def texts(labels: list[str]) -> list[Example]:
    return [text_example(text=f"text {n}", label=label) for n, label in enumerate(labels)]


def tagged(rows: list[list[str]]) -> list[Example]:
    return [words_example(words=("w",) * len(tags), tags=tuple(tags)) for tags in rows]


def score(name: str, answers: Answers, examples: list[Example], labels: tuple[str, ...]) -> float:
    kind = task(name)
    found = kind.score(answers, examples, labels)
    return next(
        one.value for one in found if (one.metric, one.slice) == (kind.metrics[0].name, None)
    )


def test_every_task_declares_one() -> None:
    for name in task_names():
        assert task(name).floor([], None) is None  # nothing to count


@given(LABELS, LABELS)
def test_the_most_frequent_class_of_train_is_scored_elsewhere(train, other) -> None:
    found = task("text-classification").floor(texts(train), None)
    assert found is not None
    most = max(Counter(train).values())
    label = min(name for name, count in Counter(train).items() if count == most)
    assert found.says == f"«{label}»"
    value = score("text-classification", found.answers(texts(other)), texts(other), ("x",))
    assert value == pytest.approx(other.count(label) / len(other))


@given(LABELS)
def test_no_constant_answer_is_better_where_it_was_counted(train) -> None:
    examples = texts(train)
    found = task("text-classification").floor(examples, None)
    assert found is not None
    best = score("text-classification", found.answers(examples), examples, ())
    for label in set(train):
        constant = Answers(((label,),) * len(train), (np.ones(1),) * len(train))
        assert score("text-classification", constant, examples, ()) <= best


@given(TAGGED, TAGGED)
def test_no_entity_is_a_tag_for_every_word_and_finds_nothing(train, other) -> None:
    found = task("token-classification").floor(tagged(train), None)
    assert found is not None
    answers = found.answers(tagged(other))
    assert answers.labels == tuple(("O",) * len(tags) for tags in other)
    assert score("token-classification", answers, tagged(other), ()) == 0.0


@pytest.fixture(scope="module")
def preprocessor(tmp_path_factory: pytest.TempPathFactory) -> TextProcessor:
    return TextProcessor.load(write("wordpiece", tmp_path_factory.mktemp("pieces") / "tokenizer"))


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 12))
@settings(max_examples=20)
def test_pieces_are_as_likely_as_they_are_frequent(preprocessor, seed, many, few) -> None:
    train, other = sentences(many, seed), list(sentences(few, seed + 1))
    found = task("masked-lm").floor(train, preprocessor)
    assert found is not None
    pieces = Counter(
        piece
        for ids in preprocessor.encode_text([running_text(one) for one in train])
        for piece in ids.tolist()
    )
    total = pieces.total() + preprocessor.vocabulary_size
    logs, words, hits = 0.0, 0, 0
    best = min(one for one, count in pieces.items() if count == max(pieces.values()))
    for example in other:
        split = running_text(example).split()
        for index in hidden_words(running_text(example)):
            words += 1
            (mine,) = preprocessor.encode_words([[split[index]]])
            hits += mine[0].tolist() == [best]
            logs += sum(math.log((pieces[piece] + 1) / total) for piece in mine[0].tolist())
    answers = found.answers(other)
    assert score("masked-lm", answers, other, ()) == pytest.approx(math.exp(logs / words))
    accuracy = task("masked-lm").score(answers, other, ())[1]
    assert accuracy.metric == "accuracy"
    assert accuracy.value == pytest.approx(hits / words)


def test_without_a_tokenizer_nothing_is_known_of_pieces() -> None:
    assert task("masked-lm").floor([text_example(text="na gode")], None) is None


def test_a_label_is_counted_and_an_example_without_one_is_not(tmp_path: Path) -> None:
    known = [text_example(text="a"), text_example(text="b"), text_example(text="c", label="pos")]
    found = task("text-classification").floor(known, None)
    assert found is not None
    assert found.answers(known).labels == (("pos",),) * 3
    assert task("text-classification").floor(known[:2], None) is None
