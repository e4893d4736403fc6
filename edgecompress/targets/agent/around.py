"""What stands around an inference: making its inputs, and reading its answer.

On a device with no more than numpy and onnxruntime that is the tokenizer alone, where there is one.
The machine that runs edgecompress does it whole (`edgecompress.targets.whole_way`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgecompress.targets.agent.arrays import Feed


class Around(Protocol):
    """What is done before and behind an inference; `covers` says what that is."""

    covers: str

    def before(self, item: int, /) -> object:
        """Make the inputs of an item."""
        ...

    def behind(self, outputs: list[Sequence[np.ndarray]], /) -> object:
        """Read the answer from the outputs of the rows of the last item."""
        ...


class Tokenizing:
    """The tokenizer of a job's texts; nothing is read of the outputs."""

    covers = "tokenizer, model"

    def __init__(self, entry: Mapping[str, Any], job: Mapping[str, Any], folder: Path) -> None:
        from tokenizers import Tokenizer

        self._texts = job["texts"]
        self._tokenizer = Tokenizer.from_file(str(folder / entry["tokenizer"]["path"]))
        # The rest of a longer text: further windows.
        self._tokenizer.enable_truncation(entry["tokenizer"]["max_length"])
        self._tokenizer.no_padding()

    def before(self, item: int, /) -> list[Feed]:
        """Encode a text."""
        text = self._texts[item]
        first = self._tokenizer.encode(text, is_pretokenized=not isinstance(text, str))
        return [
            {
                "input_ids": np.array([window.ids], dtype=np.int64),
                "attention_mask": np.array([window.attention_mask], dtype=np.int64),
                "token_type_ids": np.array([window.type_ids], dtype=np.int64),
            }
            for window in (first, *first.overflowing)
        ]

    def behind(self, outputs: list[Sequence[np.ndarray]], /) -> None:
        """Read nothing."""


def tokenizing(entry: Mapping[str, Any], job: Mapping[str, Any], folder: Path) -> Around | None:
    """Give the tokenizer that a job's `entry` names, or None."""
    return Tokenizing(entry, job, folder) if entry.get("tokenizer") else None
