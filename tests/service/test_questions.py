"""Reading bodies: whatever comes is a question or a refusal."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgecompress.service.limits import (
    MAX_BODY_BYTES,
    MAX_BODY_BYTES_OF_FILES,
    MAX_QUEUE,
    MAX_QUEUE_OF_FILES,
    Limits,
)
from edgecompress.service.questions import (
    Asked,
    Question,
    RefusedError,
    inputs_of,
    read_body,
    sends_files,
)

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


FORM = "multipart/form-data; boundary=x"


def form(*fields: tuple[str, bytes], end: bytes = b"--x--\r\n") -> bytes:
    """Write fields as curl does; one that is named ``key@`` is a file."""
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
        % (name.rstrip("@").encode(), b'; filename="a.b"' * name.endswith("@"), content)
        for name, content in fields
    ]
    return b"".join(parts) + end


@given(st.binary(max_size=60), st.sampled_from([b"", b"\r\n", b"\n--x--", b"\r\n-x"]))
def test_a_file_in_a_form_arrives_as_it_is(begin: bytes, end: bytes) -> None:
    content = begin + end
    assume(content and b"\r\n--x" not in b"\r\n" + content)
    asked = read_body(form(("image@", content)), LIMITS, "image-classification", FORM)
    assert asked == Asked((Question({"image": content}),), several=False)


@given(st.binary(), st.sampled_from([FORM, "multipart/form-data", "multipart/form-data; boundary"]))
def test_any_bytes_as_a_form(body: bytes, content_type: str) -> None:
    for whole in (body, form(("text", body)), b"--x" + body + b"\r\n--x--"):
        try:
            read_body(whole, LIMITS, "text-classification", content_type)
        except RefusedError as refused:
            assert refused.status in (400, 413, 422)
            assert "\n" not in refused.sentence


def test_a_form_asks_what_json_does() -> None:
    def of_form(task: str, *fields: tuple[str, bytes]) -> Asked:
        return read_body(form(*fields), LIMITS, task, FORM)

    two = of_form("image-classification", ("image@", b"a"), ("image@", b"b"))
    assert two == Asked((Question({"image": b"a"}), Question({"image": b"b"})), several=True)
    assert of_form("object-detection", ("images@", b"a")) == Asked(two.questions[:1], several=True)
    sound = Asked((Question({"audio": b"RIFF"}),), several=False)
    assert of_form("audio-classification", ("audio", b"UklGRg==")) == sound
    words = of_form("token-classification", ("words", b'["a", "1"]'))
    assert words == Asked((Question({"words": ["a", "1"]}),), several=False)
    options = of_form("feature-extraction", ("text", b"12"), ("dimensions", b"3"))
    assert options == Asked((Question({"text": "12", "dimensions": 3}),), several=False)
    streamed = of_form("text-generation", ("text", b"a"), ("stream", b"true"))
    assert streamed == Asked((Question({"text": "a"}),), several=False, stream=True)


def test_what_is_no_form_is_said() -> None:
    for body, status, words in (
        (form(("image@", b"a"), end=b""), 400, "does not end with its boundary"),
        (form(("image@", b"")), 422, "image is empty"),
        (form(("image", b"\xff")), 400, "neither a file (name=@file) nor UTF-8"),
        (form(("image", b"photo.jpg")), 422, "a file in a form (image=@file)"),
        (form(("photo@", b"a")), 422, "unknown key 'photo'"),
        (form(*[("image@", b"a")] * 4), 413, "4 images in one request"),
        (b"--x\r\n\r\n" * 2000 + b"--x--", 400, "more than 1000 parts"),
    ):
        with pytest.raises(RefusedError) as caught:
            read_body(body, LIMITS, "image-classification", FORM)
        assert caught.value.status == status
        assert words in caught.value.sentence


def test_files_have_room_and_are_called_what_they_are() -> None:
    for name, called in (
        ("text-classification", "texts"),
        ("image-classification", "images"),
        ("audio-classification", "sounds"),
    ):
        assert inputs_of(name) == called
        assert sends_files(name) == (called != "texts")
    assert MAX_BODY_BYTES_OF_FILES > 4 * MAX_BODY_BYTES
    assert MAX_QUEUE_OF_FILES * MAX_BODY_BYTES_OF_FILES <= MAX_QUEUE * MAX_BODY_BYTES


def test_numbers_that_python_will_not_read_are_no_json() -> None:
    found = read(b'{"text": %b}' % (b"1" * 5000))
    assert isinstance(found, RefusedError)
    assert found.status == 400


def test_a_request_never_holds_more_than_the_queue() -> None:
    assert Limits(max_texts=64, max_queue=8).texts_per_request == 8
    assert Limits(max_texts=4, max_queue=8).texts_per_request == 4
