"""The row that answers every example alike, measured like any other: what a model must beat.

What it answers is the task's to say (`edgecompress.tasks.Task.floor`); whether a model beats it is
judged by `edgecompress.choose`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgecompress.engine.pipeline import Pipeline
from edgecompress.results import Row
from edgecompress.values import Candidate, Example, Json


@dataclass(frozen=True, slots=True)
class Standing:
    """The floor's row, and what ``data.floor`` of a result says of it.

    `note` holds `answers`, what it says to every example, and `from`, the split that it counted.
    """

    row: Row
    note: Json


def measured_floor(
    pipeline: Pipeline, candidate: Candidate, examples: Sequence[Example], split: str
) -> Standing | None:
    """Score the floor on `examples`, against the teacher where there is one.

    Parameters
    ----------
    pipeline : Pipeline
        Its training split is counted, and its validation split where there is no training split.
    candidate : Candidate
        A model of the run: it says the task and, where there is no teacher, the tokenizer.
    examples : sequence of Example
    split : str
        ``validation`` or ``test``: where `examples` come from.

    Returns
    -------
    Standing or None
        None where there is no task or nothing to score.
    """
    whose = candidate if candidate.task or pipeline.teacher is None else pipeline.teacher
    if whose.task is None or not examples:
        return None
    from edgecompress.targets.accuracy import observe_floor

    with pipeline.asking() as context:
        found = observe_floor(whose, examples, split, context)
    if found is None:
        return None
    floor, measured = found
    note = {"answers": floor.says, "from": "train" if pipeline.splits.train else "validation"}
    return Standing(Row(floor.name, "reference", measurements=measured), note)
