"""What the loss says of every head, neuron and hidden channel: one calibration pass.

A mask of ones is multiplied onto each head's output, each neuron's activation and, where asked for,
each channel of the hidden states; the gradient of a row's loss by a mask entry is, to first order,
what removing that part would change. The module is left as it was.

Source: Michel et al., 2019, "Are sixteen heads really better than one?" (masks on heads); Kwon et
al., 2022, "A fast post-training pruning framework for transformers" (heads and neurons together).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgecompress.surgery.families import blocks
from edgecompress.surgery.hidden import hidden_norms
from edgecompress.training.devices import autocast
from edgecompress.training.importance.effect import answered
from edgecompress.training.losses import row_losses
from edgecompress.training.rows import TorchRows

Tick = Callable[[int], None]
Labels = Literal["data", "model"]


@dataclass(frozen=True, eq=False)
class MaskGradients:
    """Gradients of each row's loss by the masks.

    Attributes
    ----------
    heads, neurons : list of numpy.ndarray
        float32 (rows, heads) and (rows, neurons) per layer.
    hidden : numpy.ndarray or None
        float32 (rows, channels): one mask for all places where the hidden states are normalized.
    """

    heads: list[np.ndarray]
    neurons: list[np.ndarray]
    hidden: np.ndarray | None = None


def mask_gradients(
    module: Any,
    rows: TorchRows,
    tick: Tick,
    *,
    labels: Labels = "data",
    hidden: bool = False,
    fast: bool = False,
    seed: int = 0,
) -> MaskGradients:
    """Collect the gradients of every row's loss by the masks of heads, neurons and channels.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        Left as it was.
    rows : TorchRows
        Labelled, where `labels` is ``data``.
    tick : callable
        Told the number of rows done.
    labels : {"data", "model"}
        ``data``: a row's loss is the mean cross entropy with its labels (the empirical Fisher
        information, as Kwon et al. take it). ``model``: the sum over its tokens, with labels drawn
        from the model's own answers (the Fisher information itself; needs no labels).
    hidden : bool
        Also for the channels of the hidden states.
    fast : bool
        In the mixed precision that training uses, where this CPU has it.
    seed : int
        Of the labels that are drawn.
    """
    found = list(blocks(module))
    meters = [_Meter(part) for block in found for part in (block.heads, block.neurons)]
    stream = _Meter(1) if hidden else None
    count = len(rows)
    kept = [np.zeros((count, meter.parts), np.float32) for meter in meters]
    channels: list[np.ndarray] = []
    generator = torch.Generator().manual_seed(seed)
    done = 0
    with ExitStack() as stack:
        stack.enter_context(frozen(module))
        roles = ("output", "ffn_out")
        linears = [block.part(role) for block in found for role in roles]
        for linear, meter in zip(linears, meters, strict=True):
            stack.callback(linear.register_forward_pre_hook(meter.mask_input).remove)
        if stream is not None:
            for norm in hidden_norms(module):
                stack.callback(norm.register_forward_hook(stream.mask_output).remove)
        for batch in rows.batches:
            feed = rows.feed(batch)
            with autocast() if fast else nullcontext():
                output = module(**feed)
            probed_loss(rows, batch, output, labels, generator).backward()
            for meter, array in zip(meters, kept, strict=True):
                array[batch] = meter.read(len(batch))
            if stream is not None:
                values = stream.read(len(batch))
                if not channels:
                    channels.append(np.zeros((count, values.shape[1]), np.float32))
                channels[0][batch] = values
            done += len(batch)
            tick(done)
    return MaskGradients(kept[0::2], kept[1::2], channels[0] if channels else None)


def probed_loss(
    rows: TorchRows, batch: np.ndarray, output: Any, labels: Labels, generator: torch.Generator
) -> torch.Tensor:
    """Give the sum of the losses of a batch's rows, with the labels that `mask_gradients` names."""
    first = rows.task.outputs[0]
    if labels == "data":
        return row_losses(rows.task, output, rows.taught(batch)).sum()
    answers = answered(rows, batch.tolist(), output[first.name].float())
    drawn = _projected if first.kind == "vector" else _own_loss
    return drawn(answers, generator)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """While inside, no parameter wants a gradient: only the masks do, a third less work."""
    wanted = {name: p.requires_grad for name, p in module.named_parameters()}
    module.requires_grad_(False)
    try:
        yield
    finally:
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(wanted[name])


def _own_loss(answers: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Sum of the cross entropies of logits (answers, classes) with labels drawn from them."""
    if not len(answers):
        return answers.sum()
    drawn = torch.multinomial(answers.detach().softmax(-1), 1, generator=generator)[:, 0]
    return functional.cross_entropy(answers, drawn, reduction="sum")


def _projected(vectors: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Sum of vectors (rows, width) times numbers drawn from a normal distribution.

    The expectation of the squared gradient is how far the whole vector moves, squared: the Fisher
    information of a normal distribution about it, as labels drawn from answers are of classes.
    """
    drawn = torch.randn(vectors.shape, generator=generator)
    return (vectors * drawn.to(vectors.device)).sum()


class _Meter:
    """A mask with one row for each row of a batch, and its gradient after the backward pass."""

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self.ones: torch.Tensor | None = None

    def mask_input(
        self, _: nn.Module, inputs: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, ...]:
        """Multiply onto the input of a linear layer, part by part."""
        given, *rest = inputs
        batch, length, width = given.shape
        if self.ones is None:  # a layer that runs several times has one mask
            self.ones = torch.ones(batch, 1, self.parts, 1, requires_grad=True)
        masked = given.view(batch, length, self.parts, -1) * self.ones.to(given.dtype)
        return (masked.view(batch, length, width), *rest)

    def mask_output(self, _: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        """Multiply onto the output of a normalization; all of a batch share one mask."""
        if self.ones is None:
            self.ones = torch.ones(len(output), 1, output.shape[-1], requires_grad=True)
        return output * self.ones.to(output.dtype)

    def read(self, rows: int) -> np.ndarray:
        """Give the batch's gradients, float32 (rows, parts), and forget them."""
        ones, self.ones = self.ones, None
        if ones is None or ones.grad is None:
            return np.zeros((rows, self.parts), np.float32)
        return ones.grad.float().view(len(ones), -1).numpy()
