"""Counting what is taken for what, and finding the answers that compression changed."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgecompress.report.answers import (
    LONGEST,
    MOST_CLASSES,
    MOST_FLIPS,
    OTHERS,
    confusion,
    flips,
)
from edgecompress.tasks import Answers
from edgecompress.texts import text_example, words_example
from edgecompress.values import Example

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
sentences = st.lists(
    st.lists(st.tuples(*[st.sampled_from(TAGS)] * 3), min_size=1, max_size=5),
    min_size=1,
    max_size=12,
)


def answers(labels: list[tuple[str, ...]], sure: float = 0.5) -> Answers:
    return Answers(tuple(labels), tuple(np.full(len(each), sure) for each in labels))


def texts(triples: list[tuple[str, str, str]]) -> tuple[tuple[Example, ...], Answers, Answers]:
    examples = tuple(text_example(text=f"text {n}", label=t[0]) for n, t in enumerate(triples))
    return examples, answers([(t[1],) for t in triples]), answers([(t[2],) for t in triples])


@given(sentences)
def test_words_are_counted_by_type(drawn: list[list[tuple[str, str, str]]]) -> None:
    examples = [words_example(words=("w",) * len(s), tags=tuple(w[0] for w in s)) for s in drawn]
    teacher = answers([tuple(w[1] for w in s) for s in drawn])
    model = answers([tuple(w[2] for w in s) for s in drawn])
    found = confusion({"teacher": teacher, "m": model}, examples, "test")
    kind = {"O": "O", "B-PER": "PER", "I-PER": "PER", "B-LOC": "LOC", "I-LOC": "LOC"}
    flat = [word for sentence in drawn for word in sentence]
    assert found["counted"] == "words"
    for place, name in ((1, "teacher"), (2, "m")):
        wanted = Counter((kind[word[0]], kind[word[place]]) for word in flat)
        classes = found["classes"]
        got = {
            (right, said): count
            for right, line in zip(classes, found["rows"][name], strict=True)
            for said, count in zip(classes, line, strict=True)
            if count
        }
        assert got == dict(wanted)
    changed = flips(teacher, model, examples, "validation")
    right = [tuple(w[0] for w in s) for s in drawn]
    broken = sum(a == r != b for r, a, b in zip(right, teacher.labels, model.labels, strict=True))
    mended = sum(b == r != a for r, a, b in zip(right, teacher.labels, model.labels, strict=True))
    assert (changed.broken, changed.mended) == (broken, mended)
    assert len(changed.lost) == min(broken, MOST_FLIPS)
    for flip in changed.lost:
        assert flip.differing
        assert all(said == gold != other for _, gold, said, other in flip.differing)


def test_many_classes_are_bounded_and_nothing_is_lost() -> None:
    triples = [(f"c{n % 40:02d}", f"c{n % 40:02d}", f"c{(n * n) % 40:02d}") for n in range(400)]
    examples, teacher, model = texts(triples)
    found = confusion({"teacher": teacher, "m": model}, examples, "test")
    assert len(found["classes"]) == MOST_CLASSES
    assert found["classes"][-1] == OTHERS
    assert sum(map(sum, found["rows"]["m"])) == 400


def test_the_surest_mistakes_come_first_and_long_texts_are_cut() -> None:
    examples = tuple(text_example(text=f"{n} " + "long " * 200, label="a") for n in range(30))
    sure = [np.array([n / 30]) for n in range(30)]
    model = Answers(tuple(("b",) for _ in range(30)), tuple(sure))
    found = flips(answers([("a",)] * 30), model, examples, "validation")
    assert found.broken == 30
    assert [flip.text.split()[0] for flip in found.lost] == [str(n) for n in range(29, 21, -1)]
    assert all(len(flip.text) <= LONGEST for flip in found.lost)


def test_examples_without_a_label_are_not_counted() -> None:
    examples = (text_example(text="a"), text_example(text="b"))
    both = answers([("x",), ("y",)])
    assert confusion({"teacher": both}, examples, "test") == {}
    assert flips(both, answers([("y",), ("y",)]), examples, "validation").broken == 0
