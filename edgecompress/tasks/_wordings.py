"""How far a text is from the one that was wanted: the same, and the characters that it shares.

chrF is that of Popović, 2015, "chrF: character n-gram F-score for automatic MT evaluation", as
sacrebleu gives it by default (chrF2): n-grams of 1 to 6 characters without blanks, counted over all
texts; mean precision and mean recall, in which recall counts twice.
"""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter

import numpy as np

from edgecompress.metrics import ANSWERS, Metric
from edgecompress.tasks.answers import Answer
from edgecompress.tasks.base import Floats
from edgecompress.tasks.metrics import share_of_counts
from edgecompress.values import Example

LONGEST = 6
RECALL = 2.0
"""How much more recall counts than precision (beta)."""


def plain(text: str) -> str:
    """Write a text as it is compared: in one form of Unicode, with single blanks."""
    return " ".join(unicodedata.normalize("NFC", text).split())


@functools.lru_cache(maxsize=1 << 14)
def _grams(text: str) -> tuple[Counter[str], ...]:
    letters = "".join(plain(text).split())
    return tuple(
        Counter(letters[at : at + size] for at in range(len(letters) - size + 1))
        for size in range(1, LONGEST + 1)
    )


def gram_counts(answer: Answer, example: Example) -> tuple[int, ...]:
    """Count, for each length, the n-grams of a text, of the one wanted, and those of both."""
    if not isinstance(example.target, str):
        return (0,) * 3 * LONGEST
    pairs = zip(_grams(answer.labels[0]), _grams(str(example.target)), strict=True)
    return tuple(
        count
        for ours, right in pairs
        for count in (ours.total(), right.total(), (ours & right).total())
    )


def chrf_of_counts(counts: Floats) -> Floats:
    """Give chrF from sums of `gram_counts`, float (…, 18) to (…); 0 where there is nothing."""
    ours, right, both = np.moveaxis(counts.reshape(*counts.shape[:-1], LONGEST, 3), -1, 0)
    there = (ours > 0) & (right > 0)
    orders = np.maximum(there.sum(-1), 1)
    precision, recall = (
        np.where(there, both / np.maximum(all_of, 1), 0).sum(-1) / orders
        for all_of in (ours, right)
    )
    weighed = RECALL**2 * precision + recall
    found: Floats = (1 + RECALL**2) * precision * recall / np.maximum(weighed, 1e-16)
    return found


def same_counts(answer: Answer, example: Example) -> tuple[bool, int]:
    """Count one text: whether it is the one wanted, and 1; nothing where none is."""
    if not isinstance(example.target, str):
        return False, 0
    return plain(answer.labels[0]) == plain(example.target), 1


CHRF = Metric(
    "chrf", "chrF",
    "n-grams of 1 to 6 characters that are in both texts (chrF2 of Popović, 2015, as sacrebleu has "
    "it)",
    higher_is_better=True, needs=ANSWERS, best="most accurate", counts=gram_counts,
    value=chrf_of_counts,
)  # fmt: skip
EXACT = Metric(
    "exact_text", "Exact text", "texts that are written as they were wanted, blanks aside",
    higher_is_better=True, needs=ANSWERS, counts=same_counts, value=share_of_counts,
)  # fmt: skip
