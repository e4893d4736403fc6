"""Lines as they arrive: nothing lost, nothing read ahead, nothing held without end."""

from __future__ import annotations

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecompress.errors import DataError
from edgecompress.runtime.lines import PIECE, arriving


class Pieces:
    """A stream that gives just these pieces, and counts how many were asked for."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces, self.read = list(pieces), 0

    def read1(self, size: int, /) -> bytes:
        self.read += 1
        return self.pieces.pop(0) if self.pieces else b""


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=9))
def test_lines_are_those_of_the_whole(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    found = [line for group in arriving(Pieces(*pieces), "x") for line in group]
    assert found == [line.removesuffix(b"\n") for line in io.BytesIO(whole)]


def test_a_group_is_what_is_there() -> None:
    stream = Pieces(b"a\nb\nc", b"d\n", b"e")
    groups = arriving(stream, "x")
    assert next(groups) == [b"a", b"b"]
    assert stream.read == 1
    assert next(groups) == [b"cd"]
    assert stream.read == 2
    assert list(groups) == [[b"e"]]


def test_a_pipe_is_read_no_further_than_asked() -> None:
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with os.fdopen(ours, "rb") as stream, os.fdopen(theirs, "wb", buffering=0) as writer:
        sent = writer.write(b"line\n" * PIECE)  # more than a pipe holds
        groups = arriving(stream, "pipe")
        taken = 5 * len(next(groups))
        assert 0 < taken <= PIECE
        assert writer.write(b"line\n" * PIECE) <= PIECE + 4096
        assert sent < 5 * PIECE


def test_a_line_without_end_is_refused_in_time() -> None:
    stream = Pieces(b"fine\n", *[b"x" * 1000] * 100)
    with pytest.raises(DataError, match=r"line 2 of data\.txt has more than 5000 bytes"):
        list(arriving(stream, "data.txt", longest=5000))
    assert stream.read == 7
