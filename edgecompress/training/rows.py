"""Examples as a PyTorch model takes them: rows, batches of tensors, logits and scores."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edgecompress.errors import DataError, StageError
from edgecompress.processors import Processor
from edgecompress.tasks import Rows, load_processor, takes_examples, task
from edgecompress.tasks.masked_lm import MaskedLM
from edgecompress.tasks.rows import input_ids
from edgecompress.training.devices import autocast, moved
from edgecompress.values import Candidate, Example

TOKENS = 4096
"""Padded tokens of one batch when nothing is trained: about what a core's cache likes."""


@dataclass(frozen=True, eq=False)
class TorchRows(Rows):
    """Rows with what it takes to feed them to a module.

    Attributes
    ----------
    input_names : tuple of str
        Inputs that both the processor and the module know.
    """

    input_names: tuple[str, ...] = ()

    def feed(self, rows: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
        """Give a batch's inputs, (batch, …) each."""
        found = self.batch(np.asarray(rows).tolist(), self.input_names)
        return {name: torch.from_numpy(array) for name, array in found.items()}

    def targets(self, rows: Sequence[int] | np.ndarray, length: int) -> torch.Tensor:
        """Give a batch's labels, int64 (batch, length) or (batch,), -100 where there is none."""
        return torch.from_numpy(self.labels(np.asarray(rows).tolist(), length))

    def begin(self, epoch: int, seed: int) -> None:
        """Get ready for an epoch, from 0; most rows are the same in all of them."""

    def reading(self, module: Any) -> AbstractContextManager[None]:  # noqa: ARG002
        """While inside, `module` may answer only what `targets` asks for; here it answers all."""
        return nullcontext()

    @property
    def used_ids(self) -> np.ndarray:
        """All token ids that a batch of these rows can hold, int64 (ids,), ascending."""
        return np.unique(np.concatenate([[self.processor.pad_id], *input_ids(self)]))


def make_rows(candidate: Candidate, examples: Sequence[Example], module: Any) -> TorchRows:
    """Make rows of examples with a candidate's own processor, for its module.

    Raises
    ------
    StageError
        When the candidate has no task or no processor.
    DataError
        When there is no example, or one of them has a label that the candidate lacks.
    """
    if candidate.task is None or not takes_examples(candidate):
        raise StageError("training needs a model with a task and a tokenizer; this one has none")
    if not examples:
        raise DataError("there are no examples to train on; check the data's train files")
    found = task(candidate.task)
    processor = load_processor(candidate.task, candidate.preprocessor)
    rows = found.rows(examples, processor, candidate.labels)
    kind: type[TorchRows] = TorchRows
    if isinstance(found, MaskedLM):
        from edgecompress.training.masking import MaskedRows

        kind = MaskedRows
    names = module_inputs(module, processor, rows)
    return kind(rows.rows, examples, found, processor, candidate.labels, input_names=names)


def module_inputs(module: Any, processor: Processor, rows: Rows) -> tuple[str, ...]:
    """Name the inputs that a module takes of those that its processor or its rows give."""
    taken = inspect.signature(module.forward).parameters
    given = processor.input_names or tuple(name for row in rows.rows[:1] for name in row.feed)
    return tuple(name for name in given if name in taken)


def labelled_rows(candidate: Candidate, examples: Sequence[Example], module: Any) -> TorchRows:
    """Make rows of examples as `make_rows` does, and keep those that have a label.

    Raises
    ------
    DataError
        When none has.
    """
    rows = make_rows(candidate, examples, module)
    labelled = rows.labelled()
    if not len(labelled):
        raise DataError("no training example has a label; check the data's train files")
    return rows if len(labelled) == len(rows) else rows.subset(labelled)


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
    rows: TorchRows,
    fast: bool = False,
    tick: Callable[[int], None] | None = None,
) -> list[np.ndarray]:
    """Run a module over all rows.

    Parameters
    ----------
    module : transformers.PreTrainedModel
    rows : TorchRows
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
    found: list[np.ndarray] = [np.zeros(0, np.float32)] * len(rows)
    device = next(module.parameters()).device
    done = 0
    for batch in even_batches(rows.lengths):
        feed = {name: moved(tensor, device) for name, tensor in rows.feed(batch).items()}
        with torch.inference_mode(), autocast(device.type) if fast else nullcontext():
            logits = module(**feed).logits
        values = logits.float().cpu().numpy()
        for row, value in zip(batch.tolist(), values, strict=True):
            found[row] = rows.task.compact(value, rows.rows[row]).copy()
        done += len(batch)
        if tick is not None:
            tick(done)
    return found


def primary_score(module: Any, rows: TorchRows) -> float:
    """Score a module on labelled rows by `Task.quality`, in training's precision."""
    answers = rows.task.decode(logits_of(module, rows, fast=True), rows)
    return rows.task.quality(answers, rows.examples, rows.classes)
