"""What a PyTorch model answers, on this machine, in batches of similar length.

Its arithmetic is fp32, so that a batch changes an answer by rounding only; one by one it would take
ten times as long.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import numpy as np

from edgecompress.errors import DataError
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
    import torch

    from edgecompress.surgery.model import load_module

    if not isinstance(candidate.model, TorchModel):
        raise DataError("a PyTorch model is needed to answer examples here")
    rows = rows_of(candidate, examples)
    kind, processor = rows.task, rows.processor
    module = load_module(candidate.model)
    taken = inspect.signature(module.forward).parameters
    given = processor.input_names or tuple(name for row in rows.rows[:1] for name in row.feed)
    names = [name for name in given if name in taken]
    order = np.argsort(rows.lengths, kind="stable").tolist()
    outputs: list[np.ndarray] = [np.empty(0)] * len(rows)
    with torch.inference_mode():
        for start in range(0, len(order), BATCH_SIZE):
            numbers = order[start : start + BATCH_SIZE]
            feed = rows.batch(numbers, names)
            tensors = {name: torch.from_numpy(value) for name, value in feed.items()}
            found = module(**tensors).logits.numpy()
            for place, number in enumerate(numbers):
                outputs[number] = kind.compact(found[place], rows.rows[number])
            if progress:
                progress(start + len(numbers), len(order), "answering")
    return kind.decode(outputs, rows)
