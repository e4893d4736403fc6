"""Examples as a PyTorch model takes them: rows, batches of tensors, logits and scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch

from edgecompress.models.runner import run_rows
from edgecompress.models.torch_runner import TorchRunner
from edgecompress.processors import TextProcessor
from edgecompress.tasks import Answers, Rows
from edgecompress.tasks.rows import Row, input_ids
from edgecompress.tasks.scoring import by_source
from edgecompress.training.devices import autocast, faster_dtype, training_device
from edgecompress.values import Example, Runner

TOKENS = 4096
"""Padded tokens of one batch when nothing is trained: about what a core's cache likes."""
TOKENS_OF_TEXT = 512
"""The same where each token has a score for every piece of a vocabulary: 100 MB of them."""

SHORT, STEP = 32, 16
"""Where bfloat16 is used, texts of 32 tokens or more are padded to multiples of 8, and those of 64
or more to multiples of 16. oneDNN builds a kernel for each new shape of a product: with every
length as it is, that takes longer than the training of a small student itself, and all kernels
together take gigabytes. Short texts have few lengths; padding would cost more than it saves."""


@dataclass(frozen=True, eq=False)
class TorchRows(Rows):
    """Rows with what it takes to feed them to a module.

    Attributes
    ----------
    input_names : tuple of str
        Inputs that both the processor and the module know.
    """

    input_names: tuple[str, ...] = ()

    @cached_property
    def padded(self) -> np.ndarray:
        """How long each row is where it is the longest of a batch, padding included, int64 (rows,).

        By these batches are drawn, too: rows of like length together.
        """
        return self.rounded()

    def rounded(self) -> np.ndarray:
        """Give the lengths with padding, int64 (rows,).

        Rows that are no text, or whose module is not told what is padding, are as long as they are.
        """
        known = isinstance(self.processor, TextProcessor) and "attention_mask" in self.input_names
        if not (known and len(self) and faster_dtype(training_device().type)):
            return self.lengths
        step = np.minimum(np.maximum(self.lengths // SHORT * 8, 1), STEP)
        return np.minimum(-(-self.lengths // step) * step, self.lengths.max())

    @cached_property
    def batches(self) -> list[np.ndarray]:
        """The rows in batches of similar length, for a pass in which nothing is trained."""
        return even_batches(self.padded, TOKENS_OF_TEXT if self.task.generates else TOKENS)

    def length(self, rows: Sequence[int] | np.ndarray) -> int:
        """Give the length of a batch of some rows, padding included; a row alone has none."""
        known = self.padded if len(rows) > 1 else self.lengths
        return int(known[np.asarray(rows)].max())

    def feed(self, rows: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
        """Give a batch's inputs, (batch, …) each."""
        found = self.fed([self.rows[number] for number in np.asarray(rows)], self.length(rows))
        return {name: torch.from_numpy(array) for name, array in found.items()}

    def fed(self, rows: Sequence[Row], length: int) -> dict[str, np.ndarray]:
        """Give the inputs of rows, padded to `length` where they are texts, (batch, …) each."""
        feeds = [row.feed for row in rows]
        if isinstance(self.processor, TextProcessor):
            return self.processor.batch(feeds, self.input_names, length)
        return dict(self.processor.batch(feeds, self.input_names))

    def taught(self, rows: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
        """Give what a batch should teach (`Rows.targets`)."""
        padded = self.padded is not self.lengths and self.stepwise
        found = self.targets(np.asarray(rows).tolist(), self.length(rows) if padded else 0)
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
        return self.asked(TorchRunner(module, [self.task.outputs[0].name], precision), tick)

    def asked(self, runner: Runner, tick: Callable[[int], None] | None = None) -> list[np.ndarray]:
        """Ask a runner about all rows, as `outputs` asks a module."""
        wanted = self.task.outputs[0].name
        ask = partial(self.task.play, runner)
        found: list[np.ndarray] = [np.zeros(0, np.float32)] * len(self)

        def feed(some: Sequence[int]) -> dict[str, np.ndarray]:
            return self.fed([self.rows[number] for number in some], self.length(some))

        for row, given in run_rows(ask, feed, self.batches, tick):
            found[row] = self.task.compact(given[wanted], self.rows[row]).copy()
        return found

    def primary_score(self, module: Any) -> float:
        """Score a module on labelled rows by `Task.quality`, in training's precision."""
        return self.score(self.answers(module))

    def answers(self, module: Any) -> Answers:
        """Give a module's answers, in training's precision."""
        return self.task.decode(self.outputs(module, fast=True), self)

    def score(self, answers: Answers) -> float:
        """Score answers by `Task.quality`."""
        return self.task.quality(answers, self.examples, self.classes)

    def scores_by_file(self, answers: Answers) -> dict[str, float]:
        """Score answers by `Task.quality`, each data file by itself."""
        found = {}
        for name, numbers in by_source(self.examples).items():
            some = [self.examples[number] for number in numbers]
            found[name] = self.task.quality(answers.part(numbers), some, self.classes)
        return found

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
