"""Reading bodies: whatever comes is a question or a refusal."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from edgecompress.service.limits import Limits
from edgecompress.service.questions import Asked, Question, RefusedError, read_body

LIMITS = Limits(max_text=20, max_texts=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
)
KEYED = st.dictionaries(st.sampled_from(["text", "texts", "words", "x"]), JSON)


def read(body: bytes) -> Asked | RefusedError:
    try:
        return read_body(body, LIMITS)
    except RefusedError as refused:
        assert refused.status in (400, 413, 422)
        assert "\n" not in refused.sentence
        return refused


@given(st.binary())
def test_any_bytes(body: bytes) -> None:
    read(body)


@given(JSON | KEYED)
def test_any_json(document: object) -> None:
    found = read(json.dumps(document).encode())
    if isinstance(found, Asked):
        assert isinstance(document, dict)
        assert len(document) == 1
        assert len(found.questions) <= LIMITS.max_texts
        assert all(question.characters <= LIMITS.max_text for question in found.questions)


def test_what_is_asked() -> None:
    assert read(b'{"text": "a"}') == Asked((Question({"text": "a"}),), several=False)
    words = Question({"words": ["a", "b"]})
    assert (
        read(b'{"words": ["a", "b"]}') == Asked((words,), several=False) and words.characters == 3
    )
    two = (Question({"text": "a"}), Question({"text": ""}))
    assert read(b'{"texts": ["a", ""]}') == Asked(two, several=True)
    assert read(b'{"texts": []}') == Asked((), several=True)


def test_numbers_that_python_will_not_read_are_no_json() -> None:
    found = read(b'{"text": %b}' % (b"1" * 5000))
    assert isinstance(found, RefusedError)
    assert found.status == 400


def test_a_request_never_holds_more_than_the_queue() -> None:
    assert Limits(max_texts=64, max_queue=8).texts_per_request == 8
    assert Limits(max_texts=4, max_queue=8).texts_per_request == 4
