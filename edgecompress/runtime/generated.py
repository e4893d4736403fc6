"""Answers that come piece by piece: the loop of a task that generates, over an open bundle."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecompress.errors import BundleError, StageError
from edgecompress.models.runner import SessionRunner
from edgecompress.runtime.prediction import Prediction
from edgecompress.values import Example

if TYPE_CHECKING:
    from edgecompress.processors import Processor
    from edgecompress.tasks import Task


def check_graph(session: Any, model: Path) -> None:
    """Refuse a graph that gives no logits over a vocabulary (BundleError)."""
    runner = SessionRunner(session)
    if "logits" not in runner.outputs or "input_ids" not in {one.name for one in runner.specs}:
        said = ", ".join(runner.outputs[:3])
        raise BundleError(f"{model}: gives {said}, and no logits for input_ids to go on from")


def pieces_of(
    task: Task, session: Any, model: Path, example: Example, processor: Processor
) -> Generator[str, None, Prediction]:
    """Answer a question piece by piece; the prediction as a whole comes with the end.

    Raises
    ------
    BundleError
        When ONNX Runtime fails.
    DataError
        When the question is none that the model can be asked.
    """
    try:
        answer = yield from task.generate(SessionRunner(session), example, processor)
    except StageError as error:
        raise BundleError(f"{model}: {error}") from None
    return Prediction(task.say(answer, example), task.unsent, answer)


def whole(pieces: Generator[str, None, Prediction]) -> Prediction:
    """Wait for all pieces."""
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            found: Prediction = end.value
            return found
