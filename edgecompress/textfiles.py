"""Text in files, line by line, and CoNLL; standard library only, as a device has it.

`edgecompress.data` makes examples for a recipe of it, `edgecompress.comparison` questions for a
bundle.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from edgecompress.errors import DataError
from edgecompress.reading import open_regular, reading

BLANKS = " \t"
LINE = re.compile(r"([^ \t]+)[ \t]+([^ \t]+)")
TAG = re.compile(r"O|[BIES]-.+", re.DOTALL)


MAX_LINE_BYTES = 16 * 2**20
"""A line of more is no text (a disk image, a dump of zeros), and would be held whole."""


def check_file(file: Path) -> None:
    """Raise `DataError` unless `file` is a file with something in it."""
    with _opened(file):
        pass


@contextmanager
def _opened(file: Path) -> Iterator[io.BufferedReader]:
    """Open a file of text, with what is wrong with it in words."""
    try:
        stream = open_regular(file)
    except FileNotFoundError:
        raise DataError("the file is missing; check its path (and data.root)", file=file) from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", file=file) from None
    with stream:
        if not os.fstat(stream.fileno()).st_size:
            raise DataError("the file is empty", file=file)
        with reading(file):
            yield stream


def read_lines(file: Path) -> Iterator[str]:
    """Give a UTF-8 file's lines, without a byte order mark and without line ends (LF or CRLF).

    Only a line feed ends a line: Unicode's other line separators occur inside real tokens. One line
    is in memory at a time.

    Raises
    ------
    DataError
        When the file is missing, empty, no regular file or unreadable; for a line that is not UTF-8
        or absurdly long, naming it.
    """
    with _opened(file) as stream:
        yield from stream_lines(stream, file)


def stream_lines(stream: io.BufferedReader, file: Path) -> Iterator[str]:
    """Give the lines of an open file as `read_lines` does; an empty one has none."""
    number = 0
    while raw := stream.readline(MAX_LINE_BYTES):
        number += 1
        if len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n"):
            message = f"the line has more than {MAX_LINE_BYTES:,} bytes; this is no text"
            raise DataError(message, file=file, line=number)
        try:
            line = raw.removesuffix(b"\n").decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            message = "not UTF-8; save the file as UTF-8"
            raise DataError(message, file=file, line=number) from None
        yield line.removesuffix("\r")


def conll_lines(file: Path) -> Iterator[tuple[int, str, str]]:
    """Give number, word and tag of each line; a sentence's end is an empty word and tag.

    Raises
    ------
    DataError
        When a line is no word and tag, naming it, or the file cannot be read.
    """
    for number, raw in enumerate(read_lines(file), start=1):
        line = raw.strip(BLANKS)
        if not line or line.startswith("-DOCSTART-"):
            yield number, "", ""
            continue
        match = LINE.fullmatch(line)
        if match is None:
            raise DataError(
                f"expected a word, a blank and a tag, found {line[:60]!r}", file=file, line=number
            )
        word, tag = match.groups()
        if TAG.fullmatch(tag) is None:
            raise DataError(
                f"expected the tag O, B-… or I-… after the word, found {tag[:40]!r}",
                file=file,
                line=number,
            )
        yield number, word, tag


def conll_sentences(file: Path) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Give the words and the tags of each sentence of a CoNLL file; errors as `conll_lines`."""
    words: list[str] = []
    tags: list[str] = []
    for _, word, tag in conll_lines(file):
        if word:
            words.append(word)
            tags.append(tag)
        elif words:
            yield tuple(words), tuple(tags)
            words, tags = [], []
    if words:
        yield tuple(words), tuple(tags)


def is_tagged(file: Path) -> bool:
    """Say whether a file is one of words and tags, and not one of plain texts; by its first lines.

    Raises
    ------
    DataError
        As `read_lines`.
    """
    lines = [line.strip(BLANKS) for line in islice(read_lines(file), 100)]
    rows = [re.split(r"[ \t]+", line) for line in lines if line]
    if any(len(fields) > 1 and TAG.fullmatch(fields[-1]) for fields in rows):
        return True
    # Without one right tag it may still be meant so: whoever reads it then says what is wrong.
    return all(len(fields) == 2 for fields in rows)
