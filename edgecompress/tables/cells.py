"""What may stand in a cell: a text, words, a label or tags; anything else is refused in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from edgecompress.errors import DataError
from edgecompress.textfiles import TAG
from edgecompress.words import shortened


def as_text(value: Any, spaced: bool = False, names: Sequence[str] = ()) -> str:  # noqa: ARG001
    """Read a text, without blanks around it; empty where there is none."""
    if value is None or _is_nan(value):
        return ""
    if not isinstance(value, str):
        raise DataError(f"expected a text, found {_kind(value)}")
    return _encodable(value.strip())


def as_label(value: Any, spaced: bool = False, names: Sequence[str] = ()) -> str:  # noqa: ARG001
    """Read a label: a text, a number that counts, or the name of a class number."""
    if value is None or _is_nan(value):
        return ""
    if isinstance(value, str):
        text = _encodable(value.strip())
        return _named(int(text), names) if names and text.isdecimal() else text
    if isinstance(value, bool):
        return _named(int(value), names) if names else str(value).lower()
    # A column of whole numbers in which some were missing has become one of floats.
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return _named(int(value), names) if names else str(int(value))
    raise DataError(f"expected a label, found {_kind(value)}")


def as_number(value: Any, spaced: bool = False, names: Sequence[str] = ()) -> float | None:  # noqa: ARG001
    """Read a number that is finite; None where there is nothing."""
    if value is None or _is_nan(value) or (isinstance(value, str) and not value.strip()):
        return None
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        said = shortened(repr(value), 40) if isinstance(value, str) else _kind(value)
        raise DataError(f"expected a number, found {said}")
    return found


def as_words(value: Any, spaced: bool = False, names: Sequence[str] = ()) -> tuple[str, ...]:  # noqa: ARG001
    """Read a list of words; where `spaced`, from a text with blanks between them."""
    words = tuple(_list(value, spaced, "words"))
    for place, word in enumerate(words, start=1):
        if not isinstance(word, str):
            raise DataError(f"word {place} is no text but {_kind(word)}")
        if not word.strip():
            raise DataError(f"word {place} is empty")
        _encodable(word)
    return words


def as_tags(value: Any, spaced: bool = False, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Read a list of tags (O, B-…, I-…), or of the numbers of `names`."""
    found = []
    for place, tag in enumerate(_list(value, spaced, "tags"), start=1):
        number = isinstance(tag, int) and not isinstance(tag, bool)
        if number and not names:
            raise DataError(
                "the tags are numbers; list the names of their classes in order (data.classes)"
            )
        text = _named(tag, names) if number else tag
        if not isinstance(text, str) or TAG.fullmatch(text) is None:
            said = repr(text[:40]) if isinstance(text, str) else _kind(text)
            raise DataError(f"tag {place} must be O, B-… or I-…, not {said}")
        found.append(_encodable(text))
    return tuple(found)


def _list(value: Any, spaced: bool, what: str) -> Sequence[Any]:
    if value is None or _is_nan(value):
        return ()
    if spaced and isinstance(value, str):
        return value.split()
    if not isinstance(value, list | tuple):
        raise DataError(f"expected a list of {what}, found {_kind(value)}")
    return value


def _named(number: int, names: Sequence[str]) -> str:
    if number == -1:  # how datasets writes that nobody has said it
        return ""
    if not 0 <= number < len(names):
        known = shortened(", ".join(names), 120)
        raise DataError(f"there is no class {number} among {len(names)} ({known})")
    return names[number]


def _encodable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError("holds half of a surrogate pair, which is no character") from None
    return text


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a text",
             list: "a list", tuple: "a list", dict: "an object", bytes: "bytes"}  # fmt: skip
    return "nothing" if value is None else kinds.get(type(value), f"a {type(value).__name__}")
