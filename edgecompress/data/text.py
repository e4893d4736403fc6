"""Texts without labels, one a line: what a language is learnt from (`task: masked-lm`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from edgecompress.data.files import FileData
from edgecompress.textfiles import read_lines
from edgecompress.texts import text_example
from edgecompress.values import Example


class TextData(FileData):
    """Plain text files; empty lines are passed over."""

    also_called: ClassVar[tuple[str, ...]] = ("txt", "plain", "lines")

    format: Literal["text"] = "text"

    def parse(self, file: Path, source: str) -> Iterator[Example]:
        """Read the lines of one file."""
        for line in read_lines(file):
            if line.strip():
                yield text_example(text=line.strip(), source=source)

    def label_line(self, file: Path, label: str) -> int | None:  # noqa: ARG002
        """Find nothing: there are no labels."""
        return None
