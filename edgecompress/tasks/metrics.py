"""Accuracy figures from labels: span F1 by seqeval, accuracy, macro F1, calibration error.

All are made of counts per example, so that slices and resampled sets need one pass over the
answers. seqeval comes with the [build] extra and is imported where it is used.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import MissingExtraError
from edgecompress.tasks.base import Answers, Floats, Score
from edgecompress.texts import label_of, tags_of
from edgecompress.values import Example

CALIBRATION_BINS = 15  # Guo et al. 2017, "On Calibration of Modern Neural Networks"


def f1_of_counts(counts: Floats) -> Floats:
    """F1 from (true positives, predicted, gold), float (…, 3) to (…); 0 where there is nothing."""
    positives, predicted, gold = np.moveaxis(counts, -1, 0)
    return 2 * positives / np.maximum(predicted + gold, 1)


def share_of_counts(counts: Floats) -> Floats:
    """Share from (hits, all), float (…, 2) to (…); 0 where there is nothing."""
    return counts[..., 0] / np.maximum(counts[..., 1], 1)


# Gold tags are read anew for every candidate, and most of what candidates say is the same.
@functools.lru_cache(maxsize=1 << 16)
def spans(tags: tuple[str, ...]) -> frozenset[tuple[str, int, int]]:
    """Entities of one sentence as (type, first word, last word).

    By seqeval's default reading of IOB2, the one of conlleval: an ``I-`` that does not go on
    begins an entity.
    """
    try:
        from seqeval.metrics.sequence_labeling import get_entities
    except ImportError:
        raise MissingExtraError("seqeval") from None
    return frozenset(get_entities(list(tags)))


def span_counts(
    gold: Iterable[Sequence[str]], answers: Iterable[Sequence[str]]
) -> NDArray[np.float64]:
    """Count spans per sentence.

    Returns
    -------
    float64 (sentences, 3)
        True positives, predicted spans, gold spans.
    """
    pairs = [
        (spans(tuple(right)), spans(tuple(said))) for right, said in zip(gold, answers, strict=True)
    ]
    rows = [(len(right & said), len(said), len(right)) for right, said in pairs]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def span_scores(answers: Answers, examples: Sequence[Example]) -> list[Score]:
    """Span F1, precision and recall over all, per entity type and per file; word-level ECE."""
    gold = [spans(tags_of(example)) for example in examples]
    said = [spans(labels) for labels in answers.labels]

    def counts(numbers: Iterable[int], kind: str | None = None) -> NDArray[np.float64]:
        total = np.zeros(3)
        for i in numbers:
            right = {span for span in gold[i] if kind in (None, span[0])}
            found = {span for span in said[i] if kind in (None, span[0])}
            total += len(right & found), len(found), len(right)
        return total

    everything = range(len(examples))
    total = counts(everything)
    scores = [
        Score("f1", float(f1_of_counts(total)), samples=len(examples)),
        Score("precision", float(share_of_counts(total[[0, 1]])), samples=len(examples)),
        Score("recall", float(share_of_counts(total[[0, 2]])), samples=len(examples)),
        _words_ece(answers, examples),
    ]
    for kind in sorted({span[0] for sentence in gold for span in sentence}):
        part = counts(everything, kind)
        scores.append(Score("f1", float(f1_of_counts(part)), f"label:{kind}", int(part[2])))
    for source, numbers in by_source(examples).items():
        part = counts(numbers)
        scores.append(Score("f1", float(f1_of_counts(part)), f"file:{source}", len(numbers)))
    return scores


def _words_ece(answers: Answers, examples: Sequence[Example]) -> Score:
    pairs = zip(answers.labels, examples, strict=True)
    hits = np.array(
        [
            a == b
            for labels, example in pairs
            for a, b in zip(labels, tags_of(example), strict=True)
        ],
        dtype=bool,
    )
    confidence = np.concatenate([np.zeros(0), *answers.confidence])
    return Score("ece", calibration_error(confidence, hits), samples=len(hits))


def class_scores(
    answers: Answers, examples: Sequence[Example], labels: Sequence[str]
) -> list[Score]:
    """Accuracy and macro F1 over all and per file, F1 per label, expected calibration error.

    Macro F1 is the mean over the labels that `examples` hold; a label that only the answers hold
    lowers the others' F1 but is no term of the mean.
    """
    gold = np.array([label_of(example) for example in examples], dtype=object)
    said = np.array([label for (label,) in answers.labels], dtype=object)
    confidence = np.concatenate([np.zeros(0), *answers.confidence])
    hits = (gold == said).astype(bool)
    by_label = _f1_by_label(gold, said, labels)
    scores = [
        Score("accuracy", _mean(hits), samples=len(gold)),
        Score("macro_f1", _mean([value for value, _ in by_label.values()]), samples=len(gold)),
        Score("ece", calibration_error(confidence, hits), samples=len(gold)),
    ]
    for label, (value, count) in by_label.items():
        scores.append(Score("f1", value, f"label:{label}", count))
    for source, numbers in by_source(examples).items():
        of_file = _f1_by_label(gold[numbers], said[numbers], labels)
        where, count = f"file:{source}", len(numbers)
        scores.append(Score("accuracy", _mean(hits[numbers]), where, count))
        macro = _mean([value for value, _ in of_file.values()])
        scores.append(Score("macro_f1", macro, where, count))
    return scores


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def _f1_by_label(
    gold: NDArray[Any], said: NDArray[Any], labels: Sequence[str]
) -> dict[str, tuple[float, int]]:
    """F1 and number of gold examples of each label that `gold` holds, in the order of `labels`."""
    result = {}
    extra = sorted(set(gold.tolist()) - set(labels))
    for label in [*labels, *extra]:
        right, found = gold == label, said == label
        if right.any():
            counts = np.array([(right & found).sum(), found.sum(), right.sum()], dtype=np.float64)
            result[label] = (float(f1_of_counts(counts)), int(right.sum()))
    return result


def calibration_error(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> float:
    """Work out the expected calibration error: mean gap of confidence and accuracy, by bins.

    Parameters
    ----------
    confidence : float64 (answers,)
        Probability of the winning class, in [0, 1].
    correct : bool (answers,)
    bins : int
        Bins of equal width.

    Returns
    -------
    float
        In [0, 1]; 0 for no answers.
    """
    if not len(confidence):
        return 0.0
    index = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gap = np.bincount(index, weights=confidence - correct, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


def by_source(examples: Sequence[Example]) -> dict[str, list[int]]:
    """Group the examples by data file: their indices, files in the order of first sight."""
    result: dict[str, list[int]] = {}
    for number, example in enumerate(examples):
        if example.source:
            result.setdefault(example.source, []).append(number)
    return result
