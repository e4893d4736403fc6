"""Reads a form that carries files (``multipart/form-data``), as `curl -F image=@photo.jpg` sends.

Source: RFC 7578; the headers of its parts are read by Python's own `email`. The body is cut at its
boundary, which takes one walk through it whatever a stranger has put there.
"""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message
from email.parser import BytesHeaderParser

KIND = "multipart/form-data"
MOST_PARTS = 1000
"""More fields than any question has, several files included."""
MOST_HEAD = 8192
"""Bytes of the headers of a part; the usual ones take 100."""


class FormError(ValueError):
    """A body that is no form; its words are a part of a sentence."""


def is_form(content_type: str) -> bool:
    """Whether a request's content type says that its body is a form."""
    return _header(content_type).get_content_type() == KIND


def read_form(body: bytes, content_type: str) -> Iterator[tuple[str, str | bytes]]:
    """Give each field of a form by its name: text, or the bytes of a file.

    Raises
    ------
    FormError
        When it is none.
    """
    boundary = _header(content_type).get_boundary()
    if not boundary or not boundary.isascii():
        raise FormError("its content type names no boundary")
    mark = b"\r\n--" + boundary.encode()
    first, *parts = (b"\r\n" + body).split(mark, MOST_PARTS + 1)
    if len(parts) > MOST_PARTS:
        raise FormError(f"it has more than {MOST_PARTS} parts")
    if not parts or not parts[-1].startswith(b"--") or first.strip():
        raise FormError("it does not end with its boundary, or does not begin with it")
    for part in parts[:-1]:
        yield _field(part)


def _field(part: bytes) -> tuple[str, str | bytes]:
    head, gap, content = part.partition(b"\r\n\r\n")
    if not gap or len(head) > MOST_HEAD:
        raise FormError("a part of it has no headers")
    headers = BytesHeaderParser().parsebytes(head.lstrip())
    name = headers.get_param("name", header="content-disposition")
    if not isinstance(name, str) or not name:
        raise FormError("a part of it has no name")
    if headers.get_filename() is not None:
        return name, content
    try:
        return name, content.decode("utf-8")
    except UnicodeDecodeError:
        raise FormError("a field of it is neither a file (name=@file) nor UTF-8") from None


def _header(content_type: str) -> Message:
    message = Message()
    message["content-type"] = content_type
    return message
