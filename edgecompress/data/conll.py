"""Words with tags, one per line, a blank line between sentences: the form of MasakhaNER.

::

    Ya O
    al B-PER
    - I-PER
    Barnawi I-PER

A word may hold any character but ASCII blanks (real files have no-break spaces and joiners inside
words); blanks around the line's two columns do no harm. ``-DOCSTART-`` lines are skipped. ``I-``
without a ``B-`` before it is read as it stands; seqeval counts it as the begin of an entity.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from edgecompress.data.base import FileData, read_lines
from edgecompress.errors import DataError
from edgecompress.values import Example

BLANKS = " \t"
LINE = re.compile(r"([^ \t]+)[ \t]+([^ \t]+)")
TAG = re.compile(r"O|[BIES]-.+", re.DOTALL)


class ConllData(FileData):
    """CoNLL files with two columns: word and IOB2 tag."""

    format: Literal["conll"] = "conll"

    def parse(self, file: Path, source: str) -> Iterator[Example]:
        """Read the sentences of one file."""
        words: list[str] = []
        tags: list[str] = []
        for _, word, tag in _lines(file):
            if word:
                words.append(word)
                tags.append(tag)
            elif words:
                yield Example(words=tuple(words), tags=tuple(tags), source=source)
                words, tags = [], []
        if words:
            yield Example(words=tuple(words), tags=tuple(tags), source=source)

    def label_line(self, file: Path, label: str) -> int | None:
        """Find the first line with the tag `label`."""
        return next((number for number, _, tag in _lines(file) if tag == label), None)


def _lines(file: Path) -> Iterator[tuple[int, str, str]]:
    """Give number, word and tag of each line; a sentence's end is an empty word and tag."""
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
