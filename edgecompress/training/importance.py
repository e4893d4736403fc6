"""How much each head, neuron and layer matters to the loss on real examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from edgecompress.errors import StageError
from edgecompress.surgery.families import blocks
from edgecompress.training.losses import example_losses
from edgecompress.training.rows import Rows, even_batches

Tick = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Importance:
    """Importance of each layer's heads and neurons; comparable over all layers of a kind.

    Attributes
    ----------
    heads, neurons : list of numpy.ndarray
        float64 (heads,) and (neurons,) per layer, higher is more important.
    """

    heads: list[np.ndarray]
    neurons: list[np.ndarray]


def taylor(module: Any, rows: Rows, tick: Tick) -> Importance:
    """Squared first-order Taylor importance: the expected squared change of an example's loss.

    A mask of ones is multiplied onto each head's output and each neuron's activation; the gradient
    of an example's loss by a mask entry is, to first order, what removing that part would change.
    Squares are summed over examples. Source: Molchanov et al., 2019, "Importance estimation for
    neural network pruning"; Michel et al., 2019, for heads.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        Left as it was.
    rows : Rows
        Labelled.
    tick : callable
        Told the number of rows done.
    """
    meters = [(_Meter(block.heads), _Meter(block.neurons)) for block in blocks(module)]
    wanted = {name: p.requires_grad for name, p in module.named_parameters()}
    module.requires_grad_(False)  # only the masks need a gradient: a third less work
    done = 0
    with ExitStack() as hooks:
        for block, (heads, neurons) in zip(blocks(module), meters, strict=True):
            for role, meter in (("output", heads), ("ffn_out", neurons)):
                handle = block.part(role).register_forward_pre_hook(meter.mask)
                hooks.callback(handle.remove)
        for batch in even_batches(rows.lengths):
            feed = rows.feed(batch)
            logits = module(**feed).logits
            targets = rows.targets(batch, feed["input_ids"].shape[1])
            example_losses(logits, targets).sum().backward()
            for pair in meters:
                for meter in pair:
                    meter.read()
            done += len(batch)
            tick(done)
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(wanted[name])
    return Importance(
        [heads.squares.numpy() for heads, _ in meters],
        [neurons.squares.numpy() for _, neurons in meters],
    )


def magnitude(module: Any) -> Importance:
    """Sum of the squared weights that belong to each head and each neuron; needs no data."""
    heads, neurons = [], []
    with torch.no_grad():
        for block in blocks(module):
            rows = torch.zeros(block.heads * block.head_size, dtype=torch.float64)
            for role in ("query", "key", "value"):
                rows += block.part(role).weight.double().square().sum(1)
            rows += block.part("output").weight.double().square().sum(0)
            heads.append(rows.view(block.heads, -1).sum(1).numpy())
            inner = block.part("ffn_in").weight.double().square().sum(1)
            neurons.append((inner + block.part("ffn_out").weight.double().square().sum(0)).numpy())
    return Importance(heads, neurons)


def mean_loss(module: Any, rows: Rows) -> float:
    """Mean cross entropy of a module over labelled rows."""
    total = 0.0
    for batch in even_batches(rows.lengths):
        feed = rows.feed(batch)
        with torch.inference_mode():
            targets = rows.targets(batch, feed["input_ids"].shape[1])
            total += float(example_losses(module(**feed).logits, targets).sum())
    return total / max(1, len(rows.encoded))


def keep_best(
    scores: Sequence[np.ndarray], remove: float, what: str, multiple: int = 1
) -> list[list[int]]:
    """Choose what to keep, ranked over all layers.

    Parameters
    ----------
    scores : sequence of numpy.ndarray
        Importance per layer.
    remove : float
        Share of all of them to remove; a little more where `multiple` asks for it.
    what : str
        ``heads`` or ``ffn``, for the error.
    multiple : int
        A layer keeps a multiple of this (where it loses any): kernels work on whole blocks. It is
        also the least that a layer keeps.

    Returns
    -------
    list of list of int
        Ascending indices per layer.

    Raises
    ------
    StageError
        When a layer would be left with nothing.
    """
    sizes = [len(layer) for layer in scores]
    least = [min(multiple, size) for size in sizes]
    budget = sum(sizes) - int(remove * sum(sizes) + 1e-9)
    if budget < sum(least):
        most = 1 - sum(least) / sum(sizes)
        raise StageError(
            f"{what}: {remove:g} would leave {budget} in {len(sizes)} layers and so empty one; "
            f"a layer keeps at least {least[0]}, so remove at most {int(most * 1000) / 1000:g}"
        )
    order = [np.argsort(-layer, kind="stable") for layer in scores]
    counts = _counts(scores, order, least, budget)
    if multiple > 1:
        counts = _whole_blocks(counts, sizes, multiple, budget)
    pairs = zip(order, counts, strict=True)
    return [sorted(layer[:count].tolist()) for layer, count in pairs]


def _counts(
    scores: Sequence[np.ndarray], order: Sequence[np.ndarray], least: Sequence[int], budget: int
) -> list[int]:
    free = [
        (-float(scores[layer][index]), layer)
        for layer, ranked in enumerate(order)
        for index in ranked[least[layer] :]
    ]
    counts = list(least)
    for _, layer in sorted(free)[: budget - sum(least)]:
        counts[layer] += 1
    return counts


def _whole_blocks(
    counts: Sequence[int], sizes: Sequence[int], multiple: int, budget: int
) -> list[int]:
    """Round counts down to multiples, then give what that freed to the largest remainders."""
    whole = [
        count if count == size else max(min(multiple, size), count - count % multiple)
        for count, size in zip(counts, sizes, strict=True)
    ]
    by_rest = sorted(range(len(counts)), key=lambda layer: whole[layer] - counts[layer])
    for layer in by_rest:
        more = min(whole[layer] + multiple, sizes[layer])
        if whole[layer] < counts[layer] and sum(whole) - whole[layer] + more <= budget:
            whole[layer] = more
    return whole


class _Meter:
    """Masks the input of a linear layer and gathers the mask's squared gradients."""

    def __init__(self, parts: int) -> None:
        self.parts = parts
        self.squares = torch.zeros(parts, dtype=torch.float64)
        self.ones: torch.Tensor | None = None

    def mask(self, _: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        given, *rest = inputs
        batch, length, width = given.shape
        self.ones = torch.ones(batch, 1, self.parts, 1, requires_grad=True)
        masked = given.view(batch, length, self.parts, -1) * self.ones
        return (masked.view(batch, length, width), *rest)

    def read(self) -> None:
        if self.ones is not None and self.ones.grad is not None:
            self.squares += self.ones.grad.double().square().sum(0).flatten()
        self.ones = None
