"""The text side of a model that answers questions: a tokenizer, and how passages are read.

How they are read stands in ``passages.json`` beside the tokenizer's files, where somebody has said
it; its names are those of transformers' pipeline and of its scripts for SQuAD.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from edgecompress.errors import DataError
from edgecompress.processors.base import fields_of
from edgecompress.processors.text import TextProcessor
from edgecompress.reading import read_json
from edgecompress.values import file_digest
from edgecompress.words import meant

FILE = "passages.json"
MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class PassageSettings:
    """How questions and passages are read, and answers chosen.

    Attributes
    ----------
    max_seq_len : int or None
        Most tokens of a row; None for as many as the model takes.
    doc_stride : int
        Tokens of a window that stand in the next one, too; at most half of one. As in BERT's
        script for SQuAD.
    max_question_len : int
        Most tokens of a question that are read.
    max_answer_len : int
        Most tokens of an answer.
    no_answer_threshold : float or None
        «No answer» wins where its score is above that of the best answer by at least this; None
        where it never wins.
    """

    max_seq_len: int | None = None
    doc_stride: int = 128
    max_question_len: int = 64
    max_answer_len: int = 30
    no_answer_threshold: float | None = 0.0

    @property
    def margin(self) -> float:
        """The threshold as a number."""
        return math.inf if self.no_answer_threshold is None else self.no_answer_threshold


def read_settings(given: Any) -> PassageSettings:
    """Read what a file or a recipe says.

    Raises
    ------
    DataError
        Naming the key that is wrong.
    """
    if not isinstance(given, Mapping):
        raise DataError("must be an object of settings")
    known = [one.name for one in fields(PassageSettings)]
    for key, value in given.items():
        if key not in known:
            raise DataError(f"there is no setting {key!r} of passages{meant(str(key), known)}")
        if key == "no_answer_threshold":
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and math.isfinite(value)):
                raise DataError(f"{key} must be a number, or null where every question has an "
                                "answer")  # fmt: skip
        elif value is not None or key != "max_seq_len":
            least = 0 if key == "doc_stride" else 1
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MOST:
                raise DataError(f"{key} must be a number of tokens from {least}")
    return PassageSettings(**given)


@dataclass(frozen=True, eq=False)
class PassageProcessor(TextProcessor):
    """A tokenizer that says how passages are read.

    Attributes
    ----------
    settings : PassageSettings
    """

    kind: ClassVar[str] = "passages"
    settled: ClassVar[bool] = True

    settings: PassageSettings = field(default_factory=PassageSettings)

    @classmethod
    def load(cls, directory: Path | None) -> PassageProcessor:
        """Read the tokenizer and what stands beside it.

        Raises
        ------
        DataError
            When a file is missing or damaged.
        """
        base = TextProcessor.load(directory)
        given = fields_of(base)
        file = Path(directory or "") / FILE  # without a folder the tokenizer was missed already
        if not file.is_file():
            return cls(**given)
        settings = _read(file)
        digest = hashlib.sha256(f"{base.digest} {file_digest(file)}".encode()).hexdigest()
        made = cls(**{**given, "digest": digest}, settings=settings)
        if settings.max_seq_len is None:
            return made
        return replace(made, max_length=min(base.max_length, settings.max_seq_len))

    @classmethod
    def check_description(cls, settings: Mapping[str, Any]) -> None:
        """Check what a recipe says of how passages are read."""
        read_settings(settings)

    @classmethod
    def settle(cls, settings: Mapping[str, Any], folder: Path) -> None:
        """Write how passages are read beside the tokenizer; what is not named stays."""
        file = folder / FILE
        kept = asdict(_read(file)) if file.is_file() else {}
        found = read_settings({**kept, **settings})
        file.write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")


def _read(file: Path) -> PassageSettings:
    try:
        return read_settings(read_json(file))
    except DataError as error:
        raise DataError(error.message, file=file) from None
