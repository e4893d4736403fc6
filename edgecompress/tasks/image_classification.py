"""One label for an image; top-1 and top-5 accuracy, macro F1, calibration error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgecompress.metrics import ANSWERS, Metric
from edgecompress.tasks import metrics
from edgecompress.tasks.answers import Answer, Answers
from edgecompress.tasks.asking import Form
from edgecompress.tasks.base import Floats, label_id
from edgecompress.tasks.metrics import share_of_counts
from edgecompress.tasks.one_label import OneLabel
from edgecompress.tasks.pictures import IMAGE, picture_from, picture_of
from edgecompress.tasks.rows import IGNORED, Row, Rows
from edgecompress.texts import label_of
from edgecompress.values import Example, Json

TOP = 5
TRIAL_SIDES = (64, 320)  # of made-up images: one that is enlarged, one that is made smaller


def top_counts(answer: Answer, example: Example) -> tuple[bool, int]:
    """Count one image: whether its label is among the likeliest five, and 1."""
    return label_of(example) in (*answer.labels, *answer.details.get("top", ())), 1


TOP_5 = Metric(
    "top5", "Top-5 accuracy",
    "share of the answers whose five likeliest classes hold the right one",
    higher_is_better=True, needs=ANSWERS, best="most accurate", by_file=False,
    counts=top_counts, value=share_of_counts,
)  # fmt: skip


class ImageClassification(OneLabel):
    """One label per image."""

    name: ClassVar[str] = "image-classification"
    auto_class: ClassVar[str] = "AutoModelForImageClassification"
    architectures: ClassVar[tuple[str, ...]] = (
        "ForImageClassification",
        "ForImageClassificationWithTeacher",
    )
    metrics: ClassVar[tuple[Metric, ...]] = (
        metrics.ACCURACY,
        TOP_5,
        metrics.MACRO_F1,
        metrics.ECE,
    )
    processor: ClassVar[str] = "image"
    forms: ClassVar[tuple[Form, ...]] = ((IMAGE,),)
    unsent: ClassVar[tuple[str, ...]] = ("scores",)
    kept: ClassVar[tuple[str, ...]] = ("top",)
    sample: ClassVar[str] = "photo.jpg"
    does: ClassVar[str] = "gives an image one label (image classification)"

    def rows(self, examples: Sequence[Example], processor: Any, classes: Sequence[str]) -> Rows:
        """Give each image a row, whose array is made when it is asked for.

        Raises
        ------
        DataError
            When a label is not among `classes`.
        """
        ids = {label: index for index, label in enumerate(classes)}
        found = []
        for number, example in enumerate(examples):
            picture, label = picture_of(example), label_of(example)
            gold = np.array(label_id(ids, label, example) if label else IGNORED, np.int64)
            feed, cost = processor.feed(picture), processor.cost(picture)
            found.append(Row(feed, number, cost, target={"labels": gold}))
        return Rows(tuple(found), examples, self, processor, tuple(classes))

    def decode(self, outputs: Sequence[Floats], rows: Rows) -> Answers:
        """Give each image its label, and the names of the likeliest five classes."""
        found, names = super().decode(outputs, rows), np.array(rows.classes)
        orders = (np.argsort(-one["scores"], kind="stable")[:TOP] for one in found.details)
        pairs = zip(found.details, orders, strict=True)
        return replace(found, details=tuple({**one, "top": names[order]} for one, order in pairs))

    def ask(self, question: Any) -> Example:
        """Make an example of a path, of a file's bytes, of an array or of an image of Pillow's."""
        found = super().ask(question)
        return Example({"image": picture_from(found.inputs["image"])})

    def say(self, answer: Answer, example: Example) -> Json:
        """Say the label, its probability and the likeliest five; Python is given all."""
        picture = picture_of(example)
        named = {"image": str(picture)} if isinstance(picture, Path) else {}
        said = super().say(answer, example)
        names = answer.details["top"].tolist()
        top = [{"label": name, "score": said["scores"][name]} for name in names]
        return {**named, **said, "top": top}

    def describe(self, said: Json) -> str:
        """Write the label, its probability and the file on one line."""
        return f"{said['label']}  {said['score']:.1%}  {said.get('image', '')}".rstrip()

    def scope(self, labels: Sequence[str]) -> str:
        """Say that every image gets a label."""
        if not labels:
            return ""
        all_of_them = f"It gives every image one of its {len(labels)} labels"
        return f"{all_of_them}, also an image that shows none of them."

    def trial(self) -> tuple[Example, ...]:
        """Give two made-up images."""
        random = np.random.default_rng(0)
        sizes = [(side, side, 3) for side in TRIAL_SIDES]
        images = [random.integers(0, 256, size, dtype=np.uint8) for size in sizes]
        return tuple(self.ask({"image": image}) for image in images)
