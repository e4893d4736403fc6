"""Texts without labels: what a language is learnt from (masked-lm, text-generation)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from edgecompress.data.files import FileData
from edgecompress.textfiles import read_lines
from edgecompress.texts import text_example
from edgecompress.values import Example


class TextData(FileData):
    """Plain text files; empty lines are passed over."""

    also_called: ClassVar[tuple[str, ...]] = ("txt", "plain", "lines")

    format: Literal["text"] = "text"
    passage: int = Field(default=0, ge=0)
    """Lines that follow each other are one text, up to so many characters; 0: each is its own."""
    every: int = Field(default=1, ge=1)
    """Of so many texts of a file the first is read, and the others are passed over: a language
    model reads a whole book slowly, and is judged as well by texts that are spread over it."""

    def parse(self, file: Path, source: str) -> Iterator[Example]:
        """Read the texts of one file."""
        return islice(self._texts(file, source), 0, None, self.every)

    def _texts(self, file: Path, source: str) -> Iterator[Example]:
        held: list[str] = []
        size = 0
        for line in map(str.strip, read_lines(file)):
            if line and held and size + len(line) > self.passage:
                yield text_example(text="\n".join(held), source=source)
                held, size = [], 0
            if line:
                held.append(line)
                size += len(line) + 1
        if held:
            yield text_example(text="\n".join(held), source=source)

    def label_line(self, file: Path, label: str) -> int | None:  # noqa: ARG002
        """Find nothing: there are no labels."""
        return None
