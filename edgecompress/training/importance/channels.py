"""How much each channel of a `surgery.channels` graph matters.

By the loss: a mask of ones is multiplied onto the inputs of every layer that reads channels; what
removing a channel changes is, to first order, the sum of its gradients over all that read it. The
mean of their squares over examples is the Fisher information or Taylor importance (Molchanov et
al., 2019, "Importance estimation for neural network pruning"), as of heads and neurons.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import nn

from edgecompress.errors import StageError
from edgecompress.surgery.channels.groups import READERS, ChannelGraph, Group
from edgecompress.training.devices import autocast
from edgecompress.training.importance.gradients import Labels, Tick, frozen, probed_loss
from edgecompress.training.rows import TorchRows


def readers(module: nn.Module, group: Group) -> Iterator[tuple[str, np.ndarray]]:
    """Give the paths of the layers that read a group, and where: int64 (channels, copies)."""
    for place in group.places:
        path, _, own = place.tensor.rpartition(".")
        part = module.get_submodule(path)
        if place.axis == 1 and own == "weight" and isinstance(part, READERS):
            yield path, place.indices


def by_loss(
    module: Any,
    rows: TorchRows,
    graph: ChannelGraph,
    tick: Tick,
    labels: Labels = "model",
    seed: int = 0,
) -> list[np.ndarray]:
    """Sum the squares over rows of what removing each channel changes of the loss.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        Left as it was.
    rows : TorchRows
        Labelled, where `labels` is ``data``.
    graph : ChannelGraph
        Of this module.
    tick : callable
        Told the number of rows done.
    labels : {"data", "model"}
        See `mask_gradients`.
    seed : int

    Returns
    -------
    list of numpy.ndarray
        float64 (channels,) for each group.
    """
    read = [list(readers(module, group)) for group in graph.groups]
    masks = {path: _InputMask() for found in read for path, _ in found}
    totals = [np.zeros(group.size) for group in graph.groups]
    generator = torch.Generator().manual_seed(seed)
    done = 0
    with ExitStack() as stack:
        stack.enter_context(frozen(module))
        for path, mask in masks.items():
            part = module.get_submodule(path)
            stack.callback(part.register_forward_pre_hook(mask).remove)
        for batch in rows.batches:
            with autocast():
                output = module(**rows.feed(batch))
            probed_loss(rows, batch, output, labels, generator).backward()
            found = {path: mask.read(len(batch)) for path, mask in masks.items()}
            for total, places in zip(totals, read, strict=True):
                effects = sum(found[path][:, indices].sum(-1) for path, indices in places)
                total += np.square(effects).sum(0)
            done += len(batch)
            tick(done)
    return totals


def by_magnitude(module: nn.Module, graph: ChannelGraph) -> list[np.ndarray]:
    """Sum the squares of the weights that make and read each channel, over the group's mean."""
    known = dict(module.named_parameters(remove_duplicate=False))
    found = []
    for group in graph.groups:
        total = np.zeros(group.size)
        for place in group.places:
            weight = known.get(place.tensor)
            if weight is None or weight.ndim < 2:  # biases and normalizations say little
                continue
            others = [axis for axis in range(weight.ndim) if axis != place.axis]
            squares = weight.detach().double().square().sum(others).numpy()
            total += squares[place.indices].sum(-1)
        found.append(total / max(float(total.mean()), 1e-30))
    return found


class _InputMask:
    """A mask on what a layer is given, with a row for each row that goes in, and its gradient."""

    def __init__(self) -> None:
        self.ones: torch.Tensor | None = None

    def __call__(self, part: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[Any, ...]:
        given, *rest = inputs
        axis = given.ndim - 1 if isinstance(part, nn.Linear) else 1
        if self.ones is None:  # a layer that runs several times has one mask
            self.ones = torch.ones(len(given), given.shape[axis], requires_grad=True)
        shape = [len(given) if at == 0 else 1 for at in range(given.ndim)]
        shape[axis] = -1
        return (given * self.ones.to(given.dtype).view(shape), *rest)

    def read(self, rows: int) -> np.ndarray:
        """Give the gradients, float32 (rows, channels), and forget them."""
        ones, self.ones = self.ones, None
        if ones is None or ones.grad is None:
            raise StageError("the model runs other layers for some examples than for the first")
        return ones.grad.float().reshape(rows, -1, ones.shape[1]).sum(1).numpy()
