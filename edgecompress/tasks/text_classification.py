"""One label for a text: sentiment, language, topic; accuracy and macro F1.

A text longer than the model's rows becomes several windows; its answer is read from the mean of
their logits, and each of them is trained towards the text's label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from edgecompress.errors import DataError
from edgecompress.metrics import Metric
from edgecompress.tasks import metrics
from edgecompress.tasks.answers import Answers, Score
from edgecompress.tasks.base import (
    Floats,
    Floor,
    Task,
    check_outputs,
    label_id,
    softmax,
)
from edgecompress.tasks.rows import IGNORED, Row, Rows
from edgecompress.texts import label_of, text_of
from edgecompress.values import Example


class TextClassification(Task):
    """One label per text."""

    name: ClassVar[str] = "text-classification"
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    metrics: ClassVar[tuple[Metric, ...]] = (metrics.ACCURACY, metrics.MACRO_F1, metrics.ECE)
    does: ClassVar[str] = "gives a text one label (text classification)"
    windows: ClassVar[str] = "whose answers are averaged"
    head_tensors: ClassVar[tuple[str, ...]] = ("classifier.",)

    def label_names(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """Give all labels, sorted."""
        found = {label_of(example) for example in examples if label_of(example)}
        if not found:
            raise DataError("the data has no labels; text-classification needs texts with a label")
        return tuple(sorted(found))

    def rows(self, examples: Sequence[Example], processor: Any, classes: Sequence[str]) -> Rows:
        """Turn texts into rows of about equal length; an empty text is a row of special tokens.

        Raises
        ------
        DataError
            When a label is not among `classes`.
        """
        ids_of = {label: index for index, label in enumerate(classes)}
        found = []
        pieces = processor.encode_text([text_of(example) for example in examples])
        for number, (example, ids) in enumerate(zip(examples, pieces, strict=True)):
            label = label_of(example)
            gold = np.array(label_id(ids_of, label, example) if label else IGNORED, np.int64)
            count = max(1, -(-len(ids) // processor.capacity))
            for part in np.array_split(ids, count):
                row = processor.with_specials(part)
                if not len(row):  # no special tokens and no text: a model cannot take no token
                    row = np.array([processor.pad_id], dtype=np.int64)
                found.append(Row({"input_ids": row}, number, len(row), target={"labels": gold}))
        return Rows(tuple(found), examples, self, processor, tuple(classes))

    def decode(self, outputs: Sequence[Floats], rows: Rows) -> Answers:
        """Give each text the likeliest label of the mean of its windows' logits."""
        check_outputs(outputs, rows)
        sums = np.zeros((len(rows.examples), len(rows.classes)))
        for row, values in zip(rows, outputs, strict=True):
            sums[row.example] += values
        windows = np.bincount(rows.example, minlength=len(sums))
        probabilities = softmax(sums / windows[:, None])
        winners = probabilities.argmax(axis=-1).tolist()
        best = probabilities.max(axis=-1)
        return Answers(
            tuple((rows.classes[winner],) for winner in winners),
            tuple(best[i : i + 1] for i in range(len(best))),
            tuple({"classes": rows.classes, "scores": scores} for scores in probabilities),
        )

    def by_label(
        self, answers: Answers, examples: Sequence[Example], labels: Sequence[str]
    ) -> list[Score]:
        """Score the F1 of every label."""
        return metrics.f1_by_label(answers, examples, labels)

    def floor(
        self,
        known: Sequence[Example],
        processor: Any,  # noqa: ARG002 - the classes are the labels
    ) -> Floor | None:
        """Answer every text with the most frequent label of `known` (of several the first by name).

        Its confidence is that label's share of `known`.
        """
        counts = Counter(label_of(example) for example in known if label_of(example))
        if not counts:
            return None
        label = min(counts, key=lambda name: (-counts[name], name))
        share = np.array([counts[label] / counts.total()])
        return Floor(
            "always the most frequent class",
            f"«{label}»",
            lambda examples: Answers(((label,),) * len(examples), (share,) * len(examples)),
        )

    def scope(self, labels: Sequence[str]) -> str:
        """Say that every text gets a label."""
        if not labels:
            return ""
        all_of_them = f"It gives every text one of its {len(labels)} labels"
        return f"{all_of_them}, also a text that none of them fits."
