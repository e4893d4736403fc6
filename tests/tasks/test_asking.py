"""How tasks are asked and what they say: one contract for the command line, HTTP and comparison."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecompress.errors import DataError
from edgecompress.tasks import Answer, task, task_names
from edgecompress.tasks.asking import Field, read_question
from edgecompress.tasks.text_classification import TextClassification
from edgecompress.texts import text_of, words_of
from edgecompress.values import Example

TEXT, NER = task("text-classification"), task("token-classification")
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["text", "words", "x"]), inner)
    ),
    max_leaves=6,
)


@given(JSON, st.sampled_from([name for name in task_names() if task(name).forms]))
def test_any_json_is_a_question_or_one_sentence(question: Any, name: str) -> None:
    kind = task(name)
    try:
        example = kind.ask(question)
    except DataError as error:
        assert "\n" not in str(error)
        return
    count = len(words_of(example)) or 1
    details = {"vectors": np.ones((1, 2), np.float32), "similarity": np.float64(0.5)}
    labels = ("O",) * count if name == NER.name else ("a",)
    answer = Answer(labels, np.full(count, 0.5), details)
    if name == NER.name and not words_of(example):
        answer = Answer((), np.zeros(0))
    said = kind.say(answer, example)
    assert json.loads(json.dumps(said)) == said
    assert kind.describe(said)


def test_a_question_has_several_spellings() -> None:
    assert TEXT.ask("a") == TEXT.ask({"text": "a"}) == Example({"text": "a"})
    asked = NER.ask(["Buhari", "je"])
    assert asked == NER.ask({"words": ["Buhari", "je"]}) == NER.ask("Buhari je")
    assert asked.inputs["spans"] == ((0, 6), (7, 9))
    assert (text_of(asked), words_of(asked)) == ("Buhari je", ("Buhari", "je"))


@pytest.mark.parametrize(
    ("question", "says"),
    [
        (["a"], "takes texts, not words"),
        ({"words": ["a"]}, "takes texts, not words"),
        ({"text": 3}, "text must be a string"),
        ({}, "takes texts, not nothing"),
        (3, "takes texts, not int"),
    ],
)
def test_what_is_no_question_is_told_in_a_sentence(question: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        TEXT.ask(question)


def test_a_task_says_what_its_questions_hold() -> None:
    numbers = Field(
        "values", "a list of numbers", "[1, …]", lambda v: isinstance(v, list), "values"
    )
    names = Field("unit", "a string", '"…"', lambda v: isinstance(v, str), "units")

    class Series(TextClassification):
        name: ClassVar[str] = "series"
        forms = ((numbers, names),)

    kind = Series()
    asked = kind.ask({"values": [1, 2], "unit": "m"})
    assert asked.inputs == {"values": (1, 2), "unit": "m"}
    said = kind.say(Answer(("up",), np.array([0.75])), asked)
    assert said == {"label": "up", "score": 0.75}
    assert kind.describe(said) == "up  75.0%"
    with pytest.raises(DataError, match="takes values with units, not values"):
        kind.ask({"values": [1]})
    with pytest.raises(DataError, match="unit must be a string"):
        read_question({"values": [1], "unit": 2}, kind.forms, kind.name)


def test_masked_lm_is_asked_nothing() -> None:
    kind = task("masked-lm")
    assert kind.forms == ()
    with pytest.raises(DataError, match="masked-lm guesses hidden words"):
        kind.ask("a text")
