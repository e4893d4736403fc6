"""The text side of a sentence encoder: a tokenizer, and the prompts that stand before texts.

The files are sentence-transformers' own (``config_sentence_transformers.json`` and
``sentence_bert_config.json``) beside the tokenizer's; both may be missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from edgecompress.errors import DataError
from edgecompress.modules.sentence_files import LIMITS, PROMPTS, limits_of, prompts_of
from edgecompress.processors.base import fields_of
from edgecompress.processors.text import TextProcessor
from edgecompress.values import file_digest


@dataclass(frozen=True, eq=False)
class SentenceProcessor(TextProcessor):
    """A tokenizer with prompts.

    Attributes
    ----------
    prompts : mapping of str to str
        What stands before a text, by its name.
    usual : str
        The name of the prompt of a text that names none; empty for no prompt.
    lower : bool
        Whether texts are read in small letters, beside what the tokenizer does.
    """

    kind: ClassVar[str] = "sentences"

    prompts: Mapping[str, str] = field(default_factory=dict)
    usual: str = ""
    lower: bool = False

    @classmethod
    def load(cls, directory: Path | None) -> SentenceProcessor:
        """Read the tokenizer and what stands beside it.

        Raises
        ------
        DataError
            When a file is missing or damaged.
        """
        base = TextProcessor.load(directory)
        given = fields_of(base)
        folder = Path(directory or "")  # without one the tokenizer has been missed already
        prompts, usual = prompts_of(folder)
        _, lower = limits_of(folder)
        found = hashlib.sha256(base.digest.encode())
        for name in (PROMPTS, LIMITS):
            file = folder / name
            found.update(f"{name} {file_digest(file) if file.is_file() else '-'}\n".encode())
        given["digest"] = found.hexdigest()
        return cls(**given, prompts=prompts, usual=usual, lower=lower)

    def prompted(self, text: str, prompt: str | None = None) -> str:
        """Put a prompt before a text: the one of this name, else the usual one.

        Raises
        ------
        DataError
            When there is no such prompt.
        """
        name = self.usual if prompt is None else prompt
        if name and name not in self.prompts:
            known = ", ".join(map(repr, self.prompts)) or "none"
            raise DataError(f"the model has no prompt {name!r}; it has {known}")
        whole = self.prompts.get(name, "") + text
        return whole.lower() if self.lower else whole
