"""Examples as a PyTorch model takes them: encoded rows, batches of tensors, logits and scores."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from edgecompress.errors import DataError, StageError
from edgecompress.tasks import Encoded, Preprocessor, Task, task
from edgecompress.tasks.base import IGNORED
from edgecompress.tasks.masked_lm import MaskedText
from edgecompress.training.devices import autocast, moved
from edgecompress.values import Candidate, Example

TOKENS = 4096
"""Padded tokens of one batch when nothing is trained: about what a core's cache likes."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Encoded examples with what it takes to feed them to a module.

    Attributes
    ----------
    examples : sequence of Example
    encoded : Encoded
    task : Task
    preprocessor : Preprocessor
    input_names : tuple of str
        Inputs that both the tokenizer and the module know.
    labels : tuple of str
        Class names by id.
    """

    examples: Sequence[Example]
    encoded: Encoded
    task: Task
    preprocessor: Preprocessor
    input_names: tuple[str, ...]
    labels: tuple[str, ...]

    def feed(self, rows: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
        """Give a batch's inputs, int64 (batch, length) each."""
        found = self.task.feed(self.encoded, list(rows), self.preprocessor, self.input_names)
        return {name: torch.from_numpy(array) for name, array in found.items()}

    def targets(self, rows: Sequence[int] | np.ndarray, length: int) -> torch.Tensor:
        """Give a batch's labels, int64 (batch, length) or (batch,), -100 where there is none."""
        return torch.from_numpy(self.task.targets(self.encoded, list(rows), length))

    def begin(self, epoch: int, seed: int) -> None:
        """Get ready for an epoch, from 0; most rows are the same in all of them."""

    def reading(self, module: Any) -> AbstractContextManager[None]:  # noqa: ARG002
        """While inside, `module` may answer only what `targets` asks for; here it answers all."""
        return nullcontext()

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, int64 (rows,)."""
        return self.encoded.lengths

    @property
    def used_ids(self) -> np.ndarray:
        """All token ids that a batch of these rows can hold, int64 (ids,), ascending."""
        return np.unique(np.concatenate([[self.preprocessor.pad_id], *self.encoded.input_ids]))

    def labelled(self) -> np.ndarray:
        """Give the numbers of the rows that have a label, int64 (labelled,)."""
        has = [bool(np.any(label != IGNORED)) for label in self.encoded.labels]
        return np.flatnonzero(has)


def make_rows(candidate: Candidate, examples: Sequence[Example], module: Any) -> Rows:
    """Encode examples with a candidate's own tokenizer, for its module.

    Raises
    ------
    StageError
        When the candidate has no task or no tokenizer.
    DataError
        When there is no example, or one of them has a label that the candidate lacks.
    """
    if candidate.task is None or candidate.preprocessor is None:
        raise StageError("training needs a model with a task and a tokenizer; this one has none")
    if not examples:
        raise DataError("there are no examples to train on; check the data's train files")
    found = task(candidate.task)
    preprocessor = Preprocessor.load(candidate.preprocessor)
    taken = inspect.signature(module.forward).parameters
    names = tuple(name for name in preprocessor.input_names if name in taken)
    encoded = found.encode(examples, preprocessor, candidate.labels)
    if isinstance(encoded, MaskedText):
        from edgecompress.training.masking import MaskedRows

        return MaskedRows(examples, encoded, found, preprocessor, names, candidate.labels)
    return Rows(examples, encoded, found, preprocessor, names, candidate.labels)


def labelled_rows(candidate: Candidate, examples: Sequence[Example], module: Any) -> Rows:
    """Encode examples as `make_rows` does, and keep the rows that have a label.

    Raises
    ------
    DataError
        When none has.
    """
    rows = make_rows(candidate, examples, module)
    labelled = rows.labelled()
    if not len(labelled):
        raise DataError("no training example has a label; check the data's train files")
    return rows if len(labelled) == len(rows.encoded) else subset(rows, labelled)


def sample(examples: Sequence[Example], count: int, seed: int) -> tuple[Example, ...]:
    """Choose at most `count` examples at random, in their own order."""
    if len(examples) <= count:
        return tuple(examples)
    chosen = np.random.default_rng(seed).choice(len(examples), size=count, replace=False)
    return tuple(examples[index] for index in sorted(chosen.tolist()))


def even_batches(lengths: np.ndarray, tokens: int = TOKENS) -> list[np.ndarray]:
    """Divide rows into batches of similar length, at most `tokens` padded tokens each.

    Parameters
    ----------
    lengths : numpy.ndarray
        int64 (rows,).

    Returns
    -------
    list of numpy.ndarray
        int64 row numbers; every row once, the longest first.
    """
    order = np.argsort(-lengths, kind="stable")
    found, at = [], 0
    while at < len(order):
        count = max(1, tokens // max(1, int(lengths[order[at]])))
        found.append(order[at : at + count])
        at += count
    return found


def logits_of(
    module: Any,
    rows: Rows,
    fast: bool = False,
    tick: Callable[[int], None] | None = None,
) -> list[np.ndarray]:
    """Run a module over all rows.

    Parameters
    ----------
    module : transformers.PreTrainedModel
    rows : Rows
    fast : bool
        Use the mixed precision that training uses.
    tick : callable, optional
        Told the number of rows done.

    Returns
    -------
    list of numpy.ndarray
        float32 (length, classes) or (classes,) per row, unpadded; for masked-lm what its `compact`
        keeps of them.
    """
    from edgecompress.training.masking import MaskedRows

    if isinstance(rows, MaskedRows):
        return rows.logits(module, fast, tick)
    found: list[np.ndarray] = [np.zeros(0, np.float32)] * len(rows.encoded)
    device = next(module.parameters()).device
    done = 0
    for batch in even_batches(rows.lengths):
        feed = {name: moved(tensor, device) for name, tensor in rows.feed(batch).items()}
        with torch.inference_mode(), autocast(device.type) if fast else nullcontext():
            logits = module(**feed).logits
        values = logits.float().cpu().numpy()
        for row, value in zip(batch.tolist(), values, strict=True):
            length = len(rows.encoded.input_ids[row])
            found[row] = value[:length].copy() if value.ndim == 2 else value.copy()
        done += len(batch)
        if tick is not None:
            tick(done)
    return found


def primary_score(module: Any, rows: Rows) -> float:
    """Score a module on labelled rows: the task's primary metric, in training's precision."""
    answers = rows.task.decode(logits_of(module, rows, fast=True), rows.encoded, rows.labels)
    scores = rows.task.score(answers, rows.examples, rows.labels)
    return next(s.value for s in scores if s.metric == rows.task.primary and s.slice is None)


def subset(rows: Rows, numbers: np.ndarray) -> Rows:
    """Give the rows with these numbers, for training only (their examples stay as they are)."""
    at = numbers.tolist()
    old = rows.encoded
    encoded = replace(
        old,
        input_ids=tuple(old.input_ids[i] for i in at),
        labels=tuple(old.labels[i] for i in at),
        word_positions=tuple(old.word_positions[i] for i in at),
        word_indices=tuple(old.word_indices[i] for i in at),
        example=old.example[numbers],
    )
    return replace(rows, encoded=encoded)
