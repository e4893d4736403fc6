"""Asks a bundle: one question after the other, or together where the bundle says that it may.

Batches change the answers of a dynamically quantized model, whose activation ranges depend on what
else is in the batch. Whether they are safe is the bundle's to say, not the service's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from edgecompress.errors import EdgeCompressError
from edgecompress.service.batching import Answer, Outcome
from edgecompress.service.questions import Question

if TYPE_CHECKING:
    from edgecompress.runtime import Predictor


def answerer(predictor: Predictor) -> Answer:
    """Give the function that answers questions with `predictor`, in a worker's thread."""

    def answer(questions: Sequence[Question]) -> Iterator[tuple[int, Outcome]]:
        for place, question in enumerate(questions):
            yield place, _one(predictor, question)

    return answer


def _one(predictor: Predictor, question: Question) -> Outcome:
    try:
        if question.words is not None:
            return predictor.predict_words(question.words)
        return predictor.predict(question.text or "")
    except EdgeCompressError as error:
        return error  # of this question alone; the others go on
