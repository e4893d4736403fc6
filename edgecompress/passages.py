"""Questions about a passage: the answers that are right, and where they stand in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgecompress.errors import DataError
from edgecompress.values import Example
from edgecompress.words import shortened

SHOWN = 60
"""Characters of an answer in a message."""


@dataclass(frozen=True, slots=True)
class RightAnswers:
    """What people found: several may have marked an answer each.

    Attributes
    ----------
    texts : tuple of str
        None where the passage holds no answer.
    starts : tuple of int
        The character of the passage that each begins at.
    """

    texts: tuple[str, ...] = ()
    starts: tuple[int, ...] = ()


def right_answers(context: str, answer: Any, start: Any = None) -> RightAnswers:
    """Read the right answers of a record, and hold each against the passage.

    Parameters
    ----------
    context : str
    answer : object
        A text; a list of texts; SQuAD's list of objects with ``text`` and ``answer_start``; or the
        object of two lists that data sets keep of it. Nothing, or an empty one: there is no answer.
    start : object
        A number, or a list of as many as there are answers. Where nobody has said it, an answer
        stands where the passage has it first.

    Raises
    ------
    DataError
        When it is none of these, or an answer does not stand where it is said to.
    """
    texts, starts = _listed(answer), _listed(start)
    if isinstance(answer, Mapping):
        texts, starts = _listed(answer.get("text")), _listed(answer.get("answer_start"))
    elif any(isinstance(one, Mapping) for one in texts):
        pairs = [one if isinstance(one, Mapping) else {} for one in texts]
        texts = [one.get("text") for one in pairs]
        starts = [one.get("answer_start") for one in pairs]
    if not texts:
        return RightAnswers()
    if starts and len(starts) != len(texts):
        raise DataError(f"{len(texts)} answers have {len(starts)} starts; each needs one")
    given = starts or [None] * len(texts)
    found = [_placed(context, text, at) for text, at in zip(texts, given, strict=True)]
    return RightAnswers(tuple(map(str, texts)), tuple(found))


def answers_of(example: Example) -> RightAnswers | None:
    """Give the right answers to an example's question, None where nobody has said them."""
    return example.target if isinstance(example.target, RightAnswers) else None


def _listed(value: Any) -> list[Any]:
    if hasattr(value, "tolist"):  # parquet's lists are arrays
        value = value.tolist()
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _placed(context: str, text: Any, start: Any) -> int:
    if not isinstance(text, str) or not text.strip():
        raise DataError("an answer must be a text that is not empty; where a passage holds none, "
                        "leave the list of answers empty")  # fmt: skip
    said = repr(shortened(text, SHOWN))
    if start is None:
        at = context.find(text)
        if at < 0:
            raise DataError(f"the answer {said} does not stand in the passage")
        return at
    at = _whole(start)
    if context[at : at + len(text)] == text:
        return at
    there = repr(shortened(context[at : at + len(text)], SHOWN))
    near = context.find(text)
    hint = f"; it stands at {near}" if near >= 0 else ", nor anywhere in the passage"
    raise DataError(f"the answer {said} does not stand at character {at}, where {there} is{hint}")


def _whole(value: Any) -> int:
    try:
        found = -1 if isinstance(value, bool) else int(value)
        exact = isinstance(value, str) or found == value
    except (TypeError, ValueError, OverflowError):
        found, exact = -1, False
    if found < 0 or not exact:
        raise DataError(f"an answer's start must be a number from 0, not {str(value)[:20]!r}")
    return found
