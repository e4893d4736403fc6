"""Examples as a PyTorch model takes them: rows, batches of tensors, logits and scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from edgecompress.models.runner import run_rows
from edgecompress.models.torch_runner import TorchRunner
from edgecompress.processors import TextProcessor
from edgecompress.tasks import Rows
from edgecompress.tasks.rows import input_ids
from edgecompress.training.devices import autocast
from edgecompress.values import Example

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

    def taught(self, rows: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
        """Give what a batch should teach (`Rows.targets`)."""
        found = self.targets(np.asarray(rows).tolist())
        return {name: torch.from_numpy(array) for name, array in found.items()}

    def begin(self, epoch: int, seed: int) -> None:
        """Get ready for an epoch, from 0; most rows are the same in all of them."""

    def reading(self, module: Any) -> AbstractContextManager[None]:  # noqa: ARG002
        """While inside, `module` may answer only what `taught` asks for; here it answers all."""
        return nullcontext()

    def outputs(
        self, module: Any, fast: bool = False, tick: Callable[[int], None] | None = None
    ) -> list[np.ndarray]:
        """Run a module over all rows.

        Parameters
        ----------
        module : transformers.PreTrainedModel
        fast : bool
            Use the mixed precision that training uses.
        tick : callable, optional
            Told the number of rows done.

        Returns
        -------
        list of numpy.ndarray
            float32, per row, as the task's `compact` leaves them.
        """
        device = next(module.parameters()).device
        precision = partial(autocast, device.type) if fast else nullcontext
        wanted = self.task.outputs[0].name
        runner = TorchRunner(module, [wanted], precision)
        ask = partial(self.task.play, runner)
        batches = even_batches(self.lengths)
        found: list[np.ndarray] = [np.zeros(0, np.float32)] * len(self)
        for row, given in run_rows(
            ask, lambda some: self.batch(some, self.input_names), batches, tick
        ):
            found[row] = self.task.compact(given[wanted], self.rows[row]).copy()
        return found

    def primary_score(self, module: Any) -> float:
        """Score a module on labelled rows by `Task.quality`, in training's precision."""
        answers = self.task.decode(self.outputs(module, fast=True), self)
        return self.task.quality(answers, self.examples, self.classes)

    @property
    def used_ids(self) -> np.ndarray | None:
        """All token ids that a batch of these rows can hold, int64 (ids,), ascending.

        None where rows are no text.
        """
        if not isinstance(self.processor, TextProcessor):
            return None
        return np.unique(np.concatenate([[self.processor.pad_id], *input_ids(self)]))


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
