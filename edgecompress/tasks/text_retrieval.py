"""Vectors by which texts are found: the same models as `feature_extraction`, judged by their ranks.

A record holds a query, the texts that answer it, and others if there are some. All of these texts,
of all queries that are judged together, are what is searched; a text that answers several queries
stands there once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from edgecompress.errors import DataError
from edgecompress.metrics import Metric
from edgecompress.tables import Need
from edgecompress.tasks._ranks import MRR, RECALLS, texts_under
from edgecompress.tasks.answers import Answers
from edgecompress.tasks.asking import Field, Form
from edgecompress.tasks.base import Floor
from edgecompress.tasks.feature_extraction import FeatureExtraction
from edgecompress.values import Example


def is_text(value: Any) -> bool:
    """Whether a value is a text with something in it."""
    return isinstance(value, str) and bool(value.strip())


def are_texts(value: Any) -> bool:
    """Whether a value is such a text, or a list of some."""
    several = isinstance(value, list | tuple) and bool(value) and all(map(is_text, value))
    return several or is_text(value)


QUERY = Field("query", "a text that is not empty", '"…"', is_text, "queries")
POSITIVES = Field("positives", "a text or a list of texts, none empty", '["…"]', are_texts, "")
NEGATIVES = Field("negatives", "a text or a list of texts, none empty", '["…"]', are_texts, "")
PROMPTS = {"query": ("query",), "document": ("document", "passage", "corpus")}
"""What models call the prompts of both sides."""


class TextRetrieval(FeatureExtraction):
    """A vector for each text, by which those that answer a query are found."""

    name: ClassVar[str] = "text-retrieval"
    also_called: ClassVar[tuple[str, ...]] = ("information-retrieval", "retrieval")
    metrics: ClassVar[tuple[Metric, ...]] = (MRR, *RECALLS)
    records: ClassVar[tuple[Form, ...]] = (
        *FeatureExtraction.forms[:1],
        (QUERY, POSITIVES),
        (QUERY, POSITIVES, NEGATIVES),
    )
    answers: ClassVar[Need] = "ignored"
    untaught: ClassVar[str] = "learns from a teacher's vectors; use distil"
    does: ClassVar[str] = "gives a text a vector, by which texts are found (retrieval)"
    marks: ClassVar[tuple[str, ...]] = ()
    kept: ClassVar[tuple[str, ...]] = ("vectors",)

    def parts(self, example: Example, processor: Any) -> Iterator[tuple[str, str | None]]:
        """Give each text of an example with its prompt: the query, then what may answer it."""
        if "query" not in example.inputs:
            yield from super().parts(example, processor)
            return
        known = getattr(processor, "prompts", {})
        names = {side: next((one for one in each if one in known), None)
                 for side, each in PROMPTS.items()}  # fmt: skip
        yield example.inputs["query"], names["query"]
        for text in (*texts_under(example, "positives"), *texts_under(example, "negatives")):
            yield text, names["document"]

    def check_judged(self, examples: Sequence[Example]) -> None:
        """Refuse examples none of which is a query."""
        if examples and not any("query" in one.inputs for one in examples):
            raise DataError(
                "no example is a query with the texts that answer it, by which the model is "
                "judged; name its columns (data.columns: query, positives)"
            )

    def timed(self, example: Example) -> Example:
        """Give the query alone."""
        asked = example.inputs.get("query", example.inputs.get("text", ""))
        return Example({"text": asked})

    def floor(self, known: Sequence[Example], processor: Any) -> Floor | None:  # noqa: ARG002
        """Find every text alike: each has the mean rank."""
        if not known:
            return None

        def alike(examples: Sequence[Example]) -> Answers:
            counts = [len(list(self.parts(example, None))) for example in examples]
            details = tuple({"vectors": np.zeros((count, 1), np.float32)} for count in counts)
            return Answers(((),) * len(counts), (np.zeros(0),) * len(counts), details)

        return Floor("all texts found alike", "no order", alike)
