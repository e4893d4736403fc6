"""One number for a pair of texts: cross-encoders, whose head has one output.

Of two texts that stand in one row the model says how well they fit, in its own unit: what lies
behind its last layer (a sigmoid, mostly) changes no order and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgecompress.checkpoint import read_object
from edgecompress.errors import DataError
from edgecompress.tasks._similarity import ScoredPairs, correlation
from edgecompress.tasks.answers import Answer, Answers, Findings
from edgecompress.tasks.asking import TEXT, TEXT_PAIR, Form
from edgecompress.tasks.base import SAID, Floats, check_outputs
from edgecompress.tasks.rows import Row, Rows
from edgecompress.tasks.taught import Output
from edgecompress.texts import texts_of
from edgecompress.values import Example, Json


class TextRanking(ScoredPairs):
    """A number for each pair of texts."""

    name: ClassVar[str] = "text-ranking"
    also_called: ClassVar[tuple[str, ...]] = ("cross-encoder", "reranking")
    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    outputs: ClassVar[tuple[Output, ...]] = (Output("logits", "vector"),)
    forms: ClassVar[tuple[Form, ...]] = ((TEXT, TEXT_PAIR),)
    does: ClassVar[str] = "gives a pair of texts a number, by which they are ranked (cross-encoder)"
    kept: ClassVar[tuple[str, ...]] = ("similarity",)
    head_tensors: ClassVar[tuple[str, ...]] = ("classifier.",)

    def head_class(self, config: Any) -> type | None:
        """Give transformers' classifier, told to have one output."""
        config.num_labels = 1
        return super().head_class(config)

    def lacks_head(self, folder: Path) -> str | None:
        """Say that a head has several outputs, where it has."""
        count = head_size(folder)
        return None if count == 1 else f"its head gives {count} classes, and not one number"

    def label_names(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """Give none: it has no classes."""
        if any(len(texts_of(example)) != len(SAID) for example in examples):
            raise DataError(f"{self.name} needs pairs of texts; name the column of the second "
                            "(data.columns: text_pair)")  # fmt: skip
        return ()

    def rows(
        self,
        examples: Sequence[Example],
        processor: Any,
        classes: Sequence[str],  # noqa: ARG002 - there are none
    ) -> Rows:
        """Turn each pair into a row, cut off where it is longer than the model takes."""
        self.label_names(examples)
        sides = [processor.encode_text([one.inputs[side] for one in examples]) for side in SAID]
        found = []
        for number, (example, first, second) in enumerate(zip(examples, *sides, strict=True)):
            feed = processor.pair(first, second)
            score = example.target if isinstance(example.target, float) else np.nan
            target = {"labels": np.array([score], np.float32)}
            found.append(Row(feed, number, len(feed["input_ids"]), target=target))
        return Rows(tuple(found), examples, self, processor, ())

    def decode(self, outputs: Sequence[Floats], rows: Rows) -> Answers:
        """Give the number of each pair."""
        check_outputs(outputs, rows)
        details: list[Mapping[str, Any]] = [{"similarity": np.float64(one[0])} for one in outputs]
        return Answers(((),) * len(rows), (np.zeros(0),) * len(rows), tuple(details))

    def agreement(self, a: Answers, b: Answers) -> float:
        """Give the correlation of two models' numbers, at least 0."""
        x, y = (np.array([one["similarity"] for one in each.details]) for each in (a, b))
        alike = len(x) < 2 or np.array_equal(x, y)  # also where all numbers are one
        return 1.0 if alike else max(0.0, correlation(x, y))

    def say(self, answer: Answer, example: Example) -> Json:
        """Say the number of a pair."""
        texts = {key: example.inputs[key] for key in SAID}
        return {**texts, "score": float(answer.details["similarity"])}

    def describe(self, said: Json) -> str:
        """Write the number and both texts."""
        return "  ".join([f"{said['score']:.4f}", *(" ".join(said[key].split()) for key in SAID)])

    def findings(self, answer: Answer, example: Example) -> Findings:  # noqa: ARG002
        """Give the number in words, by tenths."""
        return f"score {float(answer.details['similarity']):.1f}"


def head_size(folder: Path) -> int:
    """Give how many outputs the head of a checkpoint has, as transformers reads a config.json."""
    config = read_object(folder / "config.json")
    listed = config.get("id2label")
    count = len(listed) if isinstance(listed, Mapping) and listed else config.get("num_labels", 2)
    return count if isinstance(count, int) else 2
