"""Asks a bundle: one question after the other, or together where that changes no answer.

Batches change the answers of a dynamically quantized model, whose activation ranges depend on what
else is in the batch. The predictor knows (`Predictor.batch`): where it answers one row at a time,
taking several questions at once only saves the way to the worker and back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from edgecompress.errors import EdgeCompressError
from edgecompress.service.batching import Answer, Outcome
from edgecompress.service.questions import Question

if TYPE_CHECKING:
    from edgecompress.runtime import Predictor


def answerer(predictor: Predictor) -> Answer:
    """Give the function that answers questions with `predictor`, in a worker's thread."""

    def answer(questions: Sequence[Question]) -> Iterator[tuple[int, Outcome]]:
        done = 0
        if predictor.batch > 1 and len(questions) > 1:
            try:
                for prediction in predictor.stream(question.asked for question in questions):
                    yield done, prediction
                    done += 1
            except EdgeCompressError:
                pass  # one of those left is at fault: asked alone, each gets its own answer
        for place in range(done, len(questions)):
            yield place, _one(predictor, questions[place])

    return answer


def _one(predictor: Predictor, question: Question) -> Outcome:
    try:
        if question.heard is not None:
            return _in_pieces(predictor, question, question.heard)
        return predictor.answer(question.asked)
    except EdgeCompressError as error:
        return error  # of this question alone; the others go on


def _in_pieces(
    predictor: Predictor, question: Question, heard: Callable[[str], bool]
) -> Outcome | None:
    """Answer piece by piece, as long as somebody listens."""
    pieces = predictor.pieces(question.asked)
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            return end.value
        if not heard(piece):
            pieces.close()
            return None
