"""What tasks have in common that give an example one label, whatever it is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from edgecompress.errors import DataError
from edgecompress.metrics import Metric
from edgecompress.tasks import metrics
from edgecompress.tasks.answers import Answers, Score
from edgecompress.tasks.base import Floats, Floor, Task, check_outputs, softmax
from edgecompress.tasks.rows import Rows
from edgecompress.texts import label_of
from edgecompress.values import Example

SHOWN = 50
"""Most classes of which each gets a line of its own in reports; ImageNet has a thousand."""


class OneLabel(Task):
    """One label per example, read from the mean of the logits of its rows."""

    label_metric: ClassVar[Metric | None] = metrics.F1

    def label_names(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """Give all labels, sorted."""
        found = {label_of(example) for example in examples if label_of(example)}
        if not found:
            asked = self.forms[0][0].several
            raise DataError(f"the data has no labels; {self.name} needs {asked} with a label")
        return tuple(sorted(found))

    def decode(self, outputs: Sequence[Floats], rows: Rows) -> Answers:
        """Give each example the likeliest label of the mean of its rows' logits."""
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
        """Score the F1 of every label, unless there are so many that nobody reads them."""
        return metrics.f1_by_label(answers, examples, labels) if len(labels) <= SHOWN else []

    def of_label(self, label: str) -> Metric | None:
        """Give the F1 of one label."""
        return metrics.f1_of_label(label)

    def floor(
        self,
        known: Sequence[Example],
        processor: Any,  # noqa: ARG002 - the classes are the labels
    ) -> Floor | None:
        """Answer every example with the most frequent label of `known`.

        Of several that are as frequent it is the first by name. Its confidence is that label's
        share of `known`.
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
