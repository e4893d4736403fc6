"""How far a transcript is from what was said: errors in words and in characters.

Compared is what `normalized` leaves (called ``plain-words``): one form of Unicode, small letters,
no marks but apostrophes within words, single blanks, and the titles ``mr``, ``mrs``, ``ms``, ``dr``
and ``st`` in full. What stands in square brackets is left out. Numbers and spellings stay as they
are, so that «20» for «twenty» is an error; the normalizer that comes with Whisper forgives these.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from edgecompress.metrics import ANSWERS, Metric
from edgecompress.tasks.answers import Answer
from edgecompress.tasks.metrics import share_of_counts
from edgecompress.values import Example

TITLES = {"mr": "mister", "mrs": "missus", "ms": "miss", "dr": "doctor", "st": "saint"}
_ASIDE = re.compile(r"\[[^\]]*\]")
_APOSTROPHES = str.maketrans("’‘ʼ`", "''''")


@functools.lru_cache(maxsize=1 << 14)
def normalized(text: str) -> str:
    """Write a transcript as it is compared."""
    plain = unicodedata.normalize("NFKC", _ASIDE.sub(" ", text)).lower().translate(_APOSTROPHES)
    kept = "".join(
        one if one == "'" or unicodedata.category(one)[0] in "LNM" else " " for one in plain
    )
    words = (word.strip("'") for word in kept.split())
    return " ".join(TITLES.get(word, word) for word in words if word)


def edits(said: Sequence[str], right: Sequence[str]) -> int:
    """Count what must be put in, taken out or changed (Levenshtein, 1966).

    Parameters
    ----------
    said, right : sequence of str
        Words, or characters.
    """
    if not said or not right:
        return len(said) or len(right)
    ids = {one: number for number, one in enumerate({*said, *right})}
    ours = np.array([ids[one] for one in said])
    steps = np.arange(len(said) + 1)
    row = steps.copy()
    for number, one in enumerate(right, start=1):
        best = np.minimum(row[1:] + 1, row[:-1] + (ours != ids[one]))
        whole = np.concatenate(([number], best))
        row = np.minimum.accumulate(whole - steps) + steps  # what is put in, from the left on
    return int(row[-1])


def word_counts(answer: Answer, example: Example) -> tuple[int, int]:
    """Count a transcript's wrong words, and the words that were said; nothing without a target."""
    return _counts(answer, example, str.split)


def character_counts(answer: Answer, example: Example) -> tuple[int, int]:
    """Count a transcript's wrong characters, blanks left out, and those that were said."""
    return _counts(answer, example, lambda text: text.replace(" ", ""))


def _counts(answer: Answer, example: Example, divided: object) -> tuple[int, int]:
    if not isinstance(example.target, str) or not callable(divided):
        return 0, 0
    said, right = (divided(normalized(one)) for one in (answer.labels[0], example.target))
    return edits(said, right), len(right)


WER = Metric(
    "wer", "Word error rate",
    "words put in, left out or wrong, as a share of those that were said, after the normalizer "
    "plain-words",
    needs=ANSWERS, best="most accurate", counts=word_counts, value=share_of_counts,
)  # fmt: skip
CER = Metric(
    "cer", "Character error rate",
    "characters put in, left out or wrong, as a share of those that were said (blanks left out), "
    "after the normalizer plain-words",
    needs=ANSWERS, counts=character_counts, value=share_of_counts,
)  # fmt: skip
