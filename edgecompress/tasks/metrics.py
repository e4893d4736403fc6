"""Metrics of labels: span F1 as seqeval has it, accuracy, macro F1, calibration error.

Most are made of counts per example, so that slices and resampled sets need one pass over the
answers.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.metrics import ANSWERS, Metric
from edgecompress.tasks.answers import Answer, Answers, Score
from edgecompress.tasks.entities import scored_spans
from edgecompress.texts import label_of, tags_of
from edgecompress.values import Example

Floats = NDArray[np.floating[Any]]

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
    """Entities of one sentence as (type, first word, last word); see `scored_spans`."""
    return frozenset(scored_spans(tags))


def span_counts(answer: Answer, example: Example) -> tuple[int, int, int]:
    """Count the spans of one sentence: true positives, predicted, gold."""
    right, said = spans(tags_of(example)), spans(tuple(answer.labels))
    return len(right & said), len(said), len(right)


def f1_of_type(kind: str) -> Metric:
    """Make the span F1 of one type of entity."""

    def counts(answer: Answer, example: Example) -> tuple[int, int, int]:
        right, said = (
            {span for span in spans(tuple(tags)) if span[0] == kind}
            for tags in (tags_of(example), answer.labels)
        )
        return len(right & said), len(said), len(right)

    return replace(F1, counts=counts)


def f1_of_label(label: str) -> Metric:
    """Make the F1 of one label of texts."""

    def counts(answer: Answer, example: Example) -> tuple[bool, bool, bool]:
        right, said = label_of(example) == label, answer.labels == (label,)
        return right and said, said, right

    return replace(F1, counts=counts)


def hit_counts(answer: Answer, example: Example) -> tuple[bool, int]:
    """Count one text: whether its label is right, and 1."""
    return answer.labels == (label_of(example),), 1


def f1_by_type(answers: Answers, examples: Sequence[Example]) -> list[Score]:
    """Score span F1 of every type of entity that `examples` hold."""
    gold = [spans(tags_of(example)) for example in examples]
    said = [spans(labels) for labels in answers.labels]
    found = []
    for kind in sorted({span[0] for sentence in gold for span in sentence}):
        total = np.zeros(3)
        for all_right, all_said in zip(gold, said, strict=True):
            right = {span for span in all_right if span[0] == kind}
            mine = {span for span in all_said if span[0] == kind}
            total += len(right & mine), len(mine), len(right)
        value = float(f1_of_counts(total))
        found.append(Score(F1.name, value, f"label:{kind}", int(total[2])))
    return found


def f1_by_label(
    answers: Answers, examples: Sequence[Example], labels: Sequence[str]
) -> list[Score]:
    """Score the F1 of every label that `examples` hold, in the order of `labels`."""
    found = _f1_by_label(answers, examples, labels).items()
    return [Score(F1.name, value, f"label:{label}", count) for label, (value, count) in found]


def _f1_by_label(
    answers: Answers, examples: Sequence[Example], labels: Sequence[str]
) -> dict[str, tuple[float, int]]:
    """F1 and number of gold examples of each label that `examples` hold."""
    gold = np.array([label_of(example) for example in examples], dtype=object)
    said = np.array([label for (label,) in answers.labels], dtype=object)
    result = {}
    extra = sorted(set(gold.tolist()) - set(labels))
    for label in [*labels, *extra]:
        right, found = gold == label, said == label
        if right.any():
            counts = np.array([(right & found).sum(), found.sum(), right.sum()], dtype=np.float64)
            result[label] = (float(f1_of_counts(counts)), int(right.sum()))
    return result


def macro_f1(
    answers: Answers, examples: Sequence[Example], labels: Sequence[str]
) -> tuple[float, int]:
    """Give the mean F1 of the labels that `examples` hold, and the number of examples.

    A label that only the answers hold lowers the others' F1 but is no term of the mean.
    """
    values = [value for value, _ in _f1_by_label(answers, examples, labels).values()]
    return float(np.mean(values)) if values else 0.0, len(examples)


def words_calibration(
    answers: Answers, examples: Sequence[Example], _: Sequence[str]
) -> tuple[float, int]:
    """Give the calibration error over all words, and their number."""
    return _calibration(answers, [tags_of(example) for example in examples])


def texts_calibration(
    answers: Answers, examples: Sequence[Example], _: Sequence[str]
) -> tuple[float, int]:
    """Give the calibration error over all texts, and their number."""
    return _calibration(answers, [(label_of(example),) for example in examples])


def _calibration(answers: Answers, gold: Sequence[Sequence[str]]) -> tuple[float, int]:
    pairs = zip(answers.labels, gold, strict=True)
    hits = [a == b for said, right in pairs for a, b in zip(said, right, strict=True)]
    confidence = np.concatenate([np.zeros(0), *answers.confidence])
    return calibration_error(confidence, np.array(hits, dtype=bool)), len(hits)


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


F1 = Metric(
    "f1", "F1", "harmonic mean of precision and recall: of entities, or of one label",
    higher_is_better=True, needs=ANSWERS, best="most accurate",
    counts=span_counts, value=f1_of_counts,
)  # fmt: skip
PRECISION = Metric(
    "precision", "Precision", "share of the entities found that are right",
    higher_is_better=True, needs=ANSWERS, by_file=False,
    counts=lambda answer, example: span_counts(answer, example)[:2], value=share_of_counts,
)  # fmt: skip
RECALL = Metric(
    "recall", "Recall", "share of the right entities that are found",
    higher_is_better=True, needs=ANSWERS, by_file=False,
    counts=lambda answer, example: span_counts(answer, example)[::2], value=share_of_counts,
)  # fmt: skip
ACCURACY = Metric(
    "accuracy", "Accuracy", "share of the answers that are right",
    higher_is_better=True, needs=ANSWERS, best="most accurate",
    counts=hit_counts, value=share_of_counts,
)  # fmt: skip
MACRO_F1 = Metric(
    "macro_f1", "Macro F1", "mean of the F1 of every label",
    higher_is_better=True, needs=ANSWERS, best="most accurate", whole=macro_f1,
)  # fmt: skip
ECE = Metric(
    "ece", "Calibration error (ECE)",
    "expected calibration error: how far the probabilities lie from how often it is right",
    needs=ANSWERS, by_file=False, whole=texts_calibration,
    caution="Its probabilities miss how often it is right by {value} on average (expected "
    "calibration error, {split}): do not read them as certainties.",
)  # fmt: skip
