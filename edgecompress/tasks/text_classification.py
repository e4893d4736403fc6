"""One label for a text, or for a pair: sentiment, language, topic; accuracy and macro F1.

A text longer than the model's rows becomes several windows; its answer is read from the mean of
their logits, and each of them is trained towards the text's label.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgecompress.metrics import Metric
from edgecompress.tasks import metrics
from edgecompress.tasks.asking import TEXT, TEXT_PAIR, Form
from edgecompress.tasks.base import label_id
from edgecompress.tasks.one_label import OneLabel
from edgecompress.tasks.rows import IGNORED, Row, Rows
from edgecompress.tasks.text_ranking import head_size
from edgecompress.texts import label_of, paired, text_of, texts_of
from edgecompress.values import Example


class TextClassification(OneLabel):
    """One label per text."""

    name: ClassVar[str] = "text-classification"
    also_called: ClassVar[tuple[str, ...]] = (
        "sentiment-analysis",
        "sequence-classification",
        "sst2",
    )
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    metrics: ClassVar[tuple[Metric, ...]] = (metrics.ACCURACY, metrics.MACRO_F1, metrics.ECE)
    does: ClassVar[str] = "gives a text one label (text classification)"
    forms: ClassVar[tuple[Form, ...]] = ((TEXT,), (TEXT, TEXT_PAIR))
    windows: ClassVar[str] = "whose answers are averaged"
    head_tensors: ClassVar[tuple[str, ...]] = ("classifier.", "score.", "logits_proj.")

    def lacks_head(self, folder: Path) -> str | None:
        """Say that a head of one number tells no classes apart."""
        if head_size(folder) != 1:
            return None
        return "its head gives one number and cannot tell classes apart (task text-ranking can)"

    def rows(self, examples: Sequence[Example], processor: Any, classes: Sequence[str]) -> Rows:
        """Turn texts into rows of about equal length; an empty text is a row of special tokens.

        A pair is one row, cut off where it is longer than the model takes.

        Raises
        ------
        DataError
            When a label is not among `classes`.
        """
        ids_of = {label: index for index, label in enumerate(classes)}
        found = []
        pieces = processor.encode_text([text_of(example) for example in examples])
        seconds = iter(processor.encode_text([texts_of(one)[1] for one in examples if paired(one)]))
        for number, (example, ids) in enumerate(zip(examples, pieces, strict=True)):
            label = label_of(example)
            gold = np.array(label_id(ids_of, label, example) if label else IGNORED, np.int64)
            if paired(example):
                feed = processor.pair(ids, next(seconds))
                length = len(feed["input_ids"])
                found.append(Row(feed, number, length, target={"labels": gold}))
                continue
            count = max(1, -(-len(ids) // processor.capacity))
            for part in np.array_split(ids, count):
                row = processor.with_specials(part)
                if not len(row):  # no special tokens and no text: a model cannot take no token
                    row = np.array([processor.pad_id], dtype=np.int64)
                found.append(Row({"input_ids": row}, number, len(row), target={"labels": gold}))
        return Rows(tuple(found), examples, self, processor, tuple(classes))

    def scope(self, labels: Sequence[str]) -> str:
        """Say that every text gets a label."""
        if not labels:
            return ""
        all_of_them = f"It gives every text one of its {len(labels)} labels"
        return f"{all_of_them}, also a text that none of them fits."
