"""Both sides of a model that writes a text for a text: the pieces of the one, and of the other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from edgecompress.modules.decoding import FILE, Decoding, decoding_of
from edgecompress.processors.base import fields_of
from edgecompress.processors.text import TextProcessor
from edgecompress.values import file_digest


@dataclass(frozen=True, eq=False)
class SourceProcessor(TextProcessor):
    """A tokenizer, and how the model is asked.

    Attributes
    ----------
    decoding : Decoding
    """

    kind: ClassVar[str] = "sources"

    decoding: Decoding = field(default_factory=lambda: Decoding(0, 0))

    @classmethod
    def load(cls, directory: Path | None) -> SourceProcessor:
        """Read the tokenizer, and the tokens that begin and end what the model writes.

        Raises
        ------
        DataError
            When a file is missing or damaged.
        """
        base = TextProcessor.load(directory)
        folder = Path(directory or "")  # without one the tokenizer has been missed already
        given = fields_of(base)
        decoding = decoding_of(folder)
        found = f"{base.digest} {file_digest(folder / FILE)}"
        given["digest"] = hashlib.sha256(found.encode()).hexdigest()
        return cls(**given, decoding=decoding)

    def text(self, tokens: Sequence[int]) -> str:
        """Make text of tokens, special ones left out."""
        found: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return found
