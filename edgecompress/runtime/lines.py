"""Lines as they arrive: from a file, a terminal or a pipe, without reading ahead of the answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from edgecompress.errors import DataError

PIECE = 1 << 16
"""Most bytes of one read: what a pipe holds on Linux, and all that is read ahead."""

LONGEST = 1 << 24
"""Bytes of a line beyond which it is taken for a file that has none."""


class Source(Protocol):
    """A buffered binary stream, such as ``sys.stdin.buffer``."""

    def read1(self, size: int, /) -> bytes:
        """Give what is there, at most `size` bytes; wait for the first; empty at the end."""
        ...


def arriving(stream: Source, name: str, *, longest: int = LONGEST) -> Iterator[list[bytes]]:
    """Give a stream's lines in groups: those that are there without waiting for more.

    The stream is read when the next group is asked for. So whoever writes into a pipe is held up
    while answers are made, and a person who typed one line gets its answer before the next.

    Parameters
    ----------
    stream : Source
    name : str
        The stream's, for the error.
    longest : int
        Most bytes of a line.

    Yields
    ------
    list of bytes
        At least one line, without its line feed. The last line need not have one.

    Raises
    ------
    DataError
        When a line is longer than `longest`.
    """
    begun: list[bytes] = []  # a line whose end has not come yet
    size = count = 0
    while piece := stream.read1(PIECE):
        first, *others = piece.split(b"\n")
        begun.append(first)
        size += len(first)
        if size > longest:
            raise DataError(
                f"line {count + 1} of {name} has more than {longest} bytes; give one text a line"
            )
        if others:
            lines = [b"".join(begun), *others[:-1]]
            begun, size = [others[-1]], len(others[-1])
            count += len(lines)
            yield lines
    if size:
        yield [b"".join(begun)]
