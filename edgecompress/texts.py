"""Texts among the inputs of examples: running text with a label, or words with a tag each."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence

from edgecompress.boxes import Objects
from edgecompress.values import Example

_NO_BLANKS = re.compile(r"\S+")

TEXTS = ("text", "text_pair", "question", "context")
"""Inputs that are running text."""


class Wording(str):
    """A right answer in words of its own (a transcript), which is no label among others."""

    __slots__ = ()


def text_example(text: str, label: str = "", source: str = "") -> Example:
    """Make an example of running text; without `label` nobody has said what it is."""
    return Example({"text": text}, label or None, source)


def words_example(words: Sequence[str], tags: Sequence[str] = (), source: str = "") -> Example:
    """Make an example of a text's words; without `tags` nobody has said what they are."""
    return Example({"words": tuple(words)}, tuple(tags) or None, source)


def text_of(example: Example) -> str:
    """Give the running text of an example, empty where it has none."""
    return str(example.inputs.get("text", ""))


def texts_of(example: Example) -> tuple[str, ...]:
    """Give the texts of an example: its text, the one that it is paired with, if there is.

    Of a question about a passage these are both.
    """
    return tuple(str(example.inputs[key]) for key in TEXTS if key in example.inputs)


def paired(example: Example) -> bool:
    """Say whether an example is a pair of texts."""
    return "text_pair" in example.inputs


def words_of(example: Example) -> tuple[str, ...]:
    """Give the words of an example, none where it is running text."""
    found: tuple[str, ...] = example.inputs.get("words", ())
    return found


def running_text(example: Example) -> str:
    """Give an example's text (of a pair both), or its words with blanks between them."""
    return " ".join(texts_of(example)) or " ".join(words_of(example))


def tags_of(example: Example) -> tuple[str, ...]:
    """Give the tags of an example's words, none where nobody has said them."""
    return example.target if isinstance(example.target, tuple) else ()


def label_of(example: Example) -> str:
    """Give the label of an example, empty where it has none."""
    target = example.target
    return target if isinstance(target, str) and not isinstance(target, Wording) else ""


def labels_in(example: Example) -> set[str]:
    """Give the labels of an example, those of its words or of its objects, each once."""
    marked = example.target.labels if isinstance(example.target, Objects) else ()
    return {*tags_of(example), *marked, label_of(example)} - {""}


def split_words(text: str) -> tuple[tuple[int, int], ...]:
    """Find the words of running text: (start, stop) of each, punctuation marks as their own.

    Blanks divide words; punctuation is cut off a word's two ends but stays inside it, as in the
    MasakhaNER files (``al-Barnawi``, ``$5``, ``3.5``).
    """
    spans: list[tuple[int, int]] = []
    for found in _NO_BLANKS.finditer(text):
        start, stop = left, right = found.span()
        while left < right and _is_mark(text[left]):
            left += 1
        while right > left and _is_mark(text[right - 1]):
            right -= 1
        if left > start:
            spans += [(i, i + 1) for i in range(start, left)]
        if right > left:
            spans.append((left, right))
        if stop > right:
            spans += [(i, i + 1) for i in range(right, stop)]
    return tuple(spans)


@functools.lru_cache(maxsize=1024)
def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("P")
