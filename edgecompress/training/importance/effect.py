"""What a whole model loses without a layer: its loss, or how far its answers move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from edgecompress.training.losses import Kind, row_losses, softened
from edgecompress.training.rows import TorchRows
from edgecompress.training.stepwise import StepwiseRunner, states_of

Measure = Literal["loss", "divergence"]


def answered(rows: TorchRows, batch: Sequence[int], logits: torch.Tensor) -> torch.Tensor:
    """Give the logits that are read as answers, (answers, classes): a word's first piece each.

    Parameters
    ----------
    rows : TorchRows
    batch : sequence of int
        The rows that `logits` are of.
    logits : torch.Tensor
        float (batch, length, classes), or (batch, classes) where a row has one answer.
    """
    if logits.ndim == 2:
        return logits
    read = torch.zeros(logits.shape[:2], dtype=torch.bool)
    for row, number in enumerate(batch):
        read[row, torch.from_numpy(rows.rows[number].place["positions"])] = True
    return logits[read]


def influences(module: Any, rows: TorchRows, tick: Callable[[int], None]) -> list[float]:
    """Tell how far each layer turns the hidden states: one minus the cosine, mean over tokens.

    Source: Men et al., 2024, "ShortGPT: layers in large language models are more redundant than you
    expect" (block influence).

    Parameters
    ----------
    module : transformers.PreTrainedModel
        Left as it was.
    rows : TorchRows
        Labels are not looked at.
    tick : callable
        Told the number of rows done.
    """
    runner = StepwiseRunner(module, rows)
    turned: list[torch.Tensor] = []

    def watch(_: nn.Module, given: tuple[torch.Tensor, ...], output: Any) -> None:
        turned.append(1 - functional.cosine_similarity(given[0], states_of(output), dim=-1))

    handles = [layer.register_forward_hook(watch) for layer in runner.layers]
    totals, count, done = torch.zeros(len(handles), dtype=torch.float64), 0, 0
    try:
        for batch, real, _ in runner.run(range(len(handles)), None):
            totals += torch.stack([one[real].double().sum() for one in turned])
            turned.clear()
            count, done = count + int(real.sum()), done + len(batch)
            tick(done)
    finally:
        for handle in handles:
            handle.remove()
    found: list[float] = (totals / max(1, count)).tolist()
    return found


class LayerEffects:
    """Leaves out one layer after the other, each time the one that is missed least.

    The states before each layer are kept, so that only the layers behind the one that is left out
    run again: half of the work.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        Left as it was.
    rows : TorchRows
        Labelled, where `measure` is ``loss``.
    measure : {"loss", "divergence"}
        Mean cross entropy with the labels of each row; or the mean divergence (Kullback and
        Leibler) of the answers from those of the whole model, which needs no label.
    """

    def __init__(self, module: Any, rows: TorchRows, measure: Measure) -> None:
        self.runner = StepwiseRunner(module, rows)
        self.rows, self.measure = rows, measure
        self.first = rows.task.outputs[0]
        self.kept = list(range(len(self.runner.layers)))
        # What each kept layer is given, batch by batch; the first gets the embeddings.
        self.before: list[list[Any] | None] = [None]
        self.wanted: list[torch.Tensor] = []
        self._keep_states(0)

    def without(self, position: int) -> float:
        """Measure the model without the kept layer at `position`."""
        rest = self.kept[position + 1 :]
        total, count = 0.0, 0
        for number, (batch, _, output) in enumerate(self.runner.run(rest, self.before[position])):
            if self.measure == "loss":
                found = row_losses(self.rows.task, output, self.rows.taught(batch))
            else:
                found = self.moves(number, output)
            total, count = total + float(found.double().sum()), count + len(found)
        return total / max(1, count)

    def moves(self, number: int, output: Any) -> torch.Tensor:
        """Say how far the answers to batch `number` of the rows lie from the whole model's.

        float (answers,), where `measure` is ``divergence``.
        """
        batch = self.rows.batches[number]
        answers = answered(self.rows, batch.tolist(), output[self.first.name])
        return moved(self._softened(answers), self.wanted[number], self.first.kind)

    def leave_out(self, position: int) -> None:
        """Go on without the kept layer at `position`."""
        del self.kept[position]
        if position < len(self.kept):
            self._keep_states(position)
        else:
            del self.before[position + 1 :]

    def _keep_states(self, start: int) -> None:
        """Run from position `start` on, and keep what each further layer is given."""
        layers = self.kept[start:]
        after: list[list[Any]] = [[] for _ in layers]
        handles = [
            self.runner.layers[layer].register_forward_hook(_appender(found))
            for layer, found in zip(layers, after, strict=True)
        ]
        first = not self.wanted and self.measure == "divergence"
        try:
            for batch, _, output in self.runner.run(layers, self.before[start]):
                if first:
                    answers = answered(self.rows, batch.tolist(), output[self.first.name])
                    self.wanted.append(self._softened(answers))
        finally:
            for handle in handles:
                handle.remove()
        self.before = [*self.before[: start + 1], *after[:-1]]

    def _softened(self, answers: torch.Tensor) -> torch.Tensor:
        return softened(answers, 1.0, self.first.kind)


def moved(found: torch.Tensor, wanted: torch.Tensor, kind: Kind) -> torch.Tensor:
    """Say how far answers lie from others, float (answers,): from `losses.softened` both."""
    if kind == "vector":
        return (found - wanted).square().sum(-1)
    return functional.kl_div(found, wanted, reduction="none", log_target=True).sum(-1)


def _appender(found: list[Any]) -> Callable[[nn.Module, Any, Any], None]:
    def keep(_: nn.Module, __: Any, output: Any) -> None:
        found.append(output)

    return keep
