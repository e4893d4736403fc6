"""How answers that are parts of a passage are found among scores, compared and counted.

The comparison is that of SQuAD's own script (Rajpurkar et al., 2016, "SQuAD: 100,000+ questions for
machine comprehension of text"): small letters, no punctuation, none of the articles *a*, *an* and
*the*, single blanks.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import DataError
from edgecompress.metrics import ANSWERS, Metric
from edgecompress.passages import answers_of
from edgecompress.tasks import metrics
from edgecompress.tasks.answers import Answer, Answers
from edgecompress.values import Example

Ids = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]

FAR = 1e9
"""A margin that no threshold reaches, of a passage without any part that could be the answer."""
BEST = 20
"""Starts and ends of a window that are paired with each other."""
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a passage: its characters, and the sum of the scores of both its ends."""

    score: float
    start: int
    stop: int


def best_spans(scores: Floats, tokens: Ids, spans: Ids, longest: int) -> list[Span]:
    """Find the best answers of a window.

    Parameters
    ----------
    scores : float (length, 2)
        Of each token as the first and as the last one of the answer.
    tokens : int64 (passage's tokens,)
        Which of them belong to the passage, rising.
    spans : int64 (passage's tokens, 2)
        Their characters in the passage.
    longest : int
        Most tokens of an answer.

    Returns
    -------
    list of Span
        At most `BEST`, the best first; the earlier and the shorter of equal ones.
    """
    first, last = scores[tokens, 0].astype(np.float64), scores[tokens, 1].astype(np.float64)
    starts = np.sort(np.argsort(-first, kind="stable")[:BEST])
    ends = np.sort(np.argsort(-last, kind="stable")[:BEST])
    a, b = (one.ravel() for one in np.meshgrid(starts, ends, indexing="ij"))
    fits = (b >= a) & (b - a < longest) & (spans[b, 1] > spans[a, 0])
    a, b = a[fits], b[fits]
    sums = first[a] + last[b]
    order = np.argsort(-sums, kind="stable")[:BEST]
    return [Span(float(sums[n]), int(spans[a[n], 0]), int(spans[b[n], 1])) for n in order.tolist()]


def tokens_at(spans: Ids, start: int, stop: int) -> tuple[int, int] | None:
    """Find the first and the last token that share characters with a part of a text.

    Parameters
    ----------
    spans : int64 (tokens, 2)
    start, stop : int

    Returns
    -------
    tuple of int or None
        None where the part has no token.
    """
    inside = np.flatnonzero((spans[:, 1] > start) & (spans[:, 0] < stop))
    return (int(inside[0]), int(inside[-1])) if len(inside) else None


def best_threshold(
    answers: Answers, examples: Sequence[Example]
) -> tuple[float | None, float, float]:
    """Find by how much «no answer» must score higher than the best part, for the best F1.

    As SQuAD 2.0's script does: one threshold for all questions, half-way between two of theirs.

    Parameters
    ----------
    answers : Answers
        Whose details are those of a decoded answer: ``best``, ``margin``.
    examples : sequence of Example

    Returns
    -------
    threshold : float or None
        The one nearest to 0 of those that are best; None where «no answer» is never right.
    before, after : float
        F1 of the answers as they are, and with it.

    Raises
    ------
    DataError
        When nobody has answered the questions.
    """
    judged = [one for one in zip(answers, examples, strict=True) if answers_of(one[1]) is not None]
    if not judged:
        raise DataError("no question has a right answer, by which a threshold is chosen")
    margins = np.minimum([answer.details["margin"] for answer, _ in judged], FAR)
    gains = np.array([
        _f1(answer.details["best"], example) - _f1("", example) for answer, example in judged
    ])  # fmt: skip
    order = np.argsort(margins, kind="stable")
    # Of a threshold above the n smallest margins, just these questions are answered.
    sums = np.concatenate(([0.0], np.cumsum(gains[order])))
    ends = np.concatenate(([-np.inf], margins[order], [np.inf]))
    counts = np.flatnonzero(np.diff(ends) > 0)
    counts = counts[sums[counts] >= sums[counts].max() - 1e-9]
    threshold, count = min(
        ((_between(float(ends[n]), float(ends[n + 1])), n) for n in counts.tolist()),
        key=lambda one: abs(one[0]),
    )
    without = np.mean([_f1("", example) for _, example in judged])
    before = np.mean([_f1(answer.labels[0], example) for answer, example in judged])
    always = count == len(judged) and threshold != 0
    after = float(without + sums[count] / len(judged))
    return (None if always else round(threshold, 6)), float(before), after


def _between(low: float, high: float) -> float:
    """Give a threshold above `low` and at most `high`: 0 where it is one, else half-way."""
    if low < 0 <= high:
        return 0.0
    if math.isinf(low):
        return high - 1
    return low + 1 if math.isinf(high) else (low + high) / 2


def _f1(said: str, example: Example) -> float:
    return _best(overlap, Answer((said,), np.ones(1)), example)[0]


def normalized(text: str) -> str:
    """Write an answer as it is compared."""
    plain = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def exact(said: str, right: str) -> float:
    """Whether two answers are the same, 0 or 1."""
    return float(normalized(said) == normalized(right))


def overlap(said: str, right: str) -> float:
    """F1 of the words of two answers; of one that is empty, whether both are."""
    ours, its = normalized(said).split(), normalized(right).split()
    if not ours or not its:
        return float(ours == its)
    same = sum((Counter(ours) & Counter(its)).values())
    return 2 * same / (len(ours) + len(its))


def _best(compare: Any, answer: Answer, example: Example) -> tuple[float, int]:
    """Count an example: how well it agrees with the nearest right answer, and 1.

    Of right answers that are nothing but articles and punctuation none is compared, where others
    are there (as SQuAD 2.0's script has it); what nobody has answered is not counted.
    """
    right = answers_of(example)
    if right is None:
        return 0.0, 0
    texts = [text for text in right.texts if normalized(text)] or [""]
    return max(compare(answer.labels[0], text) for text in texts), 1


F1 = replace(
    metrics.F1,
    meaning="F1 of the words of the answer and of the nearest right one, after SQuAD's "
    "normalization; mean of all questions",
    counts=lambda answer, example: _best(overlap, answer, example),
    value=metrics.share_of_counts,
)
EXACT = Metric(
    "exact_match", "Exact match",
    "share of the answers that equal a right one after SQuAD's normalization",
    higher_is_better=True, needs=ANSWERS,
    counts=lambda answer, example: _best(exact, answer, example), value=metrics.share_of_counts,
)  # fmt: skip
