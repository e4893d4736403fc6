"""What a PyTorch model answers, on this machine, in batches of similar length.

Its arithmetic is fp32, so that a batch changes an answer by rounding only; one by one it would take
ten times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from edgecompress.errors import DataError
from edgecompress.models.runner import run_rows
from edgecompress.models.torch_runner import TorchRunner
from edgecompress.targets.base import Progress
from edgecompress.tasks import Answers, rows_of
from edgecompress.values import Candidate, Example, TorchModel

BATCH_SIZE = 32


def torch_answers(
    candidate: Candidate, examples: Sequence[Example], progress: Progress | None = None
) -> Answers:
    """Ask a PyTorch candidate every example and read its answers.

    Raises
    ------
    DataError
        When the candidate has no tokenizer, or examples cannot be encoded for it.
    """
    from edgecompress.surgery.model import load_module

    if not isinstance(candidate.model, TorchModel):
        raise DataError("a PyTorch model is needed to answer examples here")
    rows = rows_of(candidate, examples)
    wanted = rows.task.outputs[0].name
    runner = TorchRunner(load_module(candidate.model), [wanted])
    ask = partial(rows.task.play, runner)
    names = rows.inputs_of({spec.name for spec in runner.specs})
    order = np.argsort(rows.lengths, kind="stable").tolist()
    size = 1 if rows.task.likelihoods else BATCH_SIZE  # logits over a vocabulary fill any memory
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    outputs: list[np.ndarray] = [np.empty(0)] * len(rows)

    def tick(done: int) -> None:
        if progress:
            progress(done, len(order), "answering")

    for number, found in run_rows(ask, lambda some: rows.batch(some, names), batches, tick):
        outputs[number] = rows.task.compact(found[wanted], rows.rows[number])
    return rows.task.decode(outputs, rows)
