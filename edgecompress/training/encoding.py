"""Examples as the rows of a candidate that is trained."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from edgecompress.errors import DataError, StageError
from edgecompress.tasks import rows_of, takes_examples
from edgecompress.training.joint_rows import JointRows
from edgecompress.training.masking import MaskedRows
from edgecompress.training.rows import TorchRows
from edgecompress.values import Candidate, Example


def make_rows(candidate: Candidate, examples: Sequence[Example], module: Any) -> TorchRows:
    """Make rows of examples with a candidate's own processor, for its module.

    Raises
    ------
    StageError
        When the candidate has no task or no processor.
    DataError
        When there is no example, or one of them has a label that the candidate lacks.
    """
    if not takes_examples(candidate):
        raise StageError("training needs a model with a task and a tokenizer; this one has none")
    if not examples:
        raise DataError("there are no examples to train on; check the data's train files")
    rows = rows_of(candidate, examples)
    kind = MaskedRows if rows.task.redraws else TorchRows
    names = rows.inputs_of(inspect.signature(module.forward).parameters)
    return kind(rows.rows, examples, rows.task, rows.processor, rows.classes, input_names=names)


def labelled_rows(
    candidate: Candidate, examples: Sequence[Example], module: Any, *, joint: bool = False
) -> TorchRows:
    """Make rows of examples as `make_rows` does, and keep those that have a label.

    With `joint` and without any such row, examples whose rows teach something together are given
    (`JointRows`).

    Raises
    ------
    DataError
        When none has.
    """
    rows = make_rows(candidate, examples, module)
    labelled = rows.labelled()
    if joint and not len(labelled) and len(together := JointRows.of(rows)):
        return together
    if not len(labelled) and rows.task.untaught:
        raise DataError(f"{rows.task.name} {rows.task.untaught}")
    if not len(labelled):
        raise DataError("no training example has a label; check the data's train files")
    return rows if len(labelled) == len(rows) else rows.subset(labelled)
