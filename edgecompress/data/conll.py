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

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from edgecompress.data.files import FileData
from edgecompress.textfiles import conll_lines, conll_sentences
from edgecompress.texts import words_example
from edgecompress.values import Example


class ConllData(FileData):
    """CoNLL files with two columns: word and IOB2 tag."""

    also_called: ClassVar[tuple[str, ...]] = ("conll2003", "iob", "bio")

    format: Literal["conll"] = "conll"

    def parse(self, file: Path, source: str) -> Iterator[Example]:
        """Read the sentences of one file."""
        for words, tags in conll_sentences(file):
            yield words_example(words=words, tags=tags, source=source)

    def label_line(self, file: Path, label: str) -> int | None:
        """Find the first line with the tag `label`."""
        return next((number for number, _, tag in conll_lines(file) if tag == label), None)
