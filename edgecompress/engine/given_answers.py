"""The answers of the model that a report shows, beside the right ones and the teacher's.

The counts are of the test split, whose answers were given when the rows were scored. The examples
shown with their texts are of validation: whoever has read the texts of a test cannot be tested by
it any more.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgecompress.engine.pipeline import Pipeline
from edgecompress.errors import TargetError
from edgecompress.report.answers import Flips, confusion, flips
from edgecompress.tasks import task
from edgecompress.values import Candidate, Example, Json


def given_answers(
    pipeline: Pipeline, name: str, candidate: Candidate, test: Sequence[Example]
) -> tuple[Json, Flips | None]:
    """Compare the answers that a candidate and the teacher give on this machine.

    They are in the store already where this machine is a target, or was asked beside one.

    Parameters
    ----------
    pipeline : Pipeline
    name : str
        The row of `candidate`.
    candidate : Candidate
        The winner, or the nearest.
    test : sequence of Example

    Returns
    -------
    counts : dict
        As `edgecompress.report.answers.confusion` gives it, of test or else of validation.
    flips : Flips or None
        Of validation; None without a teacher.
    """
    validation = pipeline.splits.validation
    if candidate.task is None or not task(candidate.task).labelled or not validation:
        return {}, None
    asked, split = (test, "test") if test else (validation, "validation")
    pipeline.reporter.begin("answers beside the teacher's")
    models = {"teacher": pipeline.teacher, name: candidate}
    try:
        found = {
            one: pipeline.answers(model, asked)
            for one, model in models.items()
            if model is not None
        }
        changed = None
        if pipeline.teacher is not None:
            both = [pipeline.answers(each, validation) for each in (pipeline.teacher, candidate)]
            changed = flips(both[0], both[1], validation, "validation")
    except TargetError as error:
        pipeline.reporter.end(f"failed: {error}")
        return {}, None
    said = f"{changed.broken + changed.mended} flipped on validation" if changed else "counted"
    pipeline.reporter.end(said)
    return confusion(found, asked, split), changed
