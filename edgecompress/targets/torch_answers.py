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
from edgecompress.tasks import Answers, Preprocessor, task
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

    if candidate.preprocessor is None or not isinstance(candidate.model, TorchModel):
        raise DataError("a PyTorch model with a tokenizer is needed to answer examples")
    kind = task(str(candidate.task))
    preprocessor = Preprocessor.load(candidate.preprocessor)
    encoded = kind.encode(examples, preprocessor, candidate.labels)
    module = load_module(candidate.model)
    taken = inspect.signature(module.forward).parameters
    names = [name for name in preprocessor.input_names if name in taken]
    lengths = [len(ids) for ids in encoded.input_ids]
    order = np.argsort(lengths, kind="stable")
    logits: list[np.ndarray] = [np.empty(0)] * len(lengths)
    with torch.inference_mode():
        for start in range(0, len(order), BATCH_SIZE):
            rows = [int(row) for row in order[start : start + BATCH_SIZE]]
            feed = kind.feed(encoded, rows, preprocessor, names)
            tensors = {name: torch.from_numpy(value) for name, value in feed.items()}
            found = module(**tensors).logits.numpy()
            for place, row in enumerate(rows):
                # Token classification gives a row per token: what stands on padding is cut off.
                whole = found[place, : lengths[row]] if found.ndim == 3 else found[place]
                logits[row] = kind.compact(whole, encoded, row)
            if progress:
                progress(start + len(rows), len(order), "answering")
    return kind.decode(logits, encoded, candidate.labels)
