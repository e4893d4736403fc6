"""A task of a third party: a class for a sequence of numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from edgecompress.errors import DataError
from edgecompress.metrics import Metric
from edgecompress.tasks import Answers, Floor, Row, Rows, Task
from edgecompress.tasks.base import Floats, softmax
from edgecompress.tasks.metrics import ACCURACY
from edgecompress.values import Example


class NumberSequences(Task):
    """One class for a sequence of readings."""

    name: ClassVar[str] = "number-sequences"
    auto_class: ClassVar[str] = "AutoModel"
    metrics: ClassVar[tuple[Metric, ...]] = (ACCURACY,)
    processor: ClassVar[str] = "tensors"

    def label_names(self, examples: Sequence[Example]) -> tuple[str, ...]:
        found = sorted({example.target for example in examples if example.target})
        if not found:
            raise DataError("the data has no classes")
        return tuple(found)

    def rows(self, examples: Sequence[Example], processor: Any, classes: Sequence[str]) -> Rows:
        made = []
        for number, example in enumerate(examples):
            values = np.array(example.inputs["values"], np.float32)
            label = classes.index(example.target) if example.target else -100
            made.append(
                Row({"values": values}, number, len(values), target={"labels": np.array(label)})
            )
        return Rows(tuple(made), examples, self, processor, tuple(classes))

    def decode(self, outputs: Sequence[Floats], rows: Rows) -> Answers:
        chances = softmax(np.stack(outputs)) if outputs else np.zeros((0, len(rows.classes)))
        labels = tuple((rows.classes[best],) for best in chances.argmax(-1).tolist())
        return Answers(labels, tuple(chances.max(-1, keepdims=True)))

    def floor(self, known: Sequence[Example], processor: Any) -> Floor | None:
        counts = Counter(example.target for example in known if example.target)
        if not counts:
            return None
        best = min(counts, key=lambda name: (-counts[name], name))
        share = np.array([counts[best] / counts.total()])
        return Floor(
            "always the most frequent class",
            f"«{best}»",
            lambda asked: Answers(((best,),) * len(asked), (share,) * len(asked)),
        )

    def example(self, text: str) -> Example:
        return Example({"values": tuple(float(one) for one in text.split())})
