"""What a module without some of its channels is given in place of training: means and deviations.

A batch normalization knows the mean and the deviation of what it is given. Without some channels
these are others, and a network whose normalizations hold the old ones answers far worse than it
could. They are measured anew on examples without labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from edgecompress.surgery.channels.cutting import Kept, removed_from
from edgecompress.surgery.channels.groups import ChannelGraph
from edgecompress.training.importance.channels import readers
from edgecompress.training.rows import TorchRows

Measured = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""Mean and variance of what modules are given, by their paths."""


def batch_norms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Give the batch normalizations of a module that keep what they have seen."""
    return [
        part
        for part in module.modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.track_running_stats
    ]


@contextmanager
def by_batch(norms: Sequence[nn.modules.batchnorm._BatchNorm]) -> Iterator[None]:
    """While inside, batch normalizations take mean and deviation from the batch, and follow them.

    Afterwards they are as in evaluation again.
    """
    for norm in norms:
        norm.train()
    try:
        yield
    finally:
        for norm in norms:
            norm.eval()


def measure_inputs(module: Any, rows: TorchRows) -> Measured:
    """Let every batch normalization hold the mean and deviation of its input on these rows.

    Scale and bias change with them, so that the module computes what it did. Where they were folded
    into the convolutions, a normalization holds 0 and 1, which are no measurements: what is
    measured without some channels could not be held against them.

    Parameters
    ----------
    module : transformers.PreTrainedModel
    rows : TorchRows

    Returns
    -------
    dict of str to tuple of torch.Tensor
        Mean and variance, float (channels,) each, of the inputs of those without scale and bias, by
        their paths. They are left as they are.
    """
    known = {id(part): path for path, part in module.named_modules()}
    norms, apart = batch_norms(module), {}
    found = _means(module, rows, norms)
    with torch.no_grad():
        for norm, (mean, variance) in zip(norms, found, strict=True):
            if not norm.affine:
                apart[known[id(norm)]] = mean, variance
                continue
            scale = (norm.running_var + norm.eps).sqrt()
            shift = (mean - norm.running_mean) / scale
            norm.bias += norm.weight * shift
            norm.weight *= (variance + norm.eps).sqrt() / scale
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
    return apart


def without(measured: Measured, graph: ChannelGraph, kept: Kept) -> Measured:
    """Give what was measured of the channels that stay."""
    found = dict(measured)
    for place, gone in removed_from(graph, kept):
        path, _, own = place.tensor.rpartition(".")
        if own == "running_mean" and path in found:
            mean, variance = found[path]
            left = torch.from_numpy(np.setdiff1d(np.arange(len(mean)), gone))
            found[path] = mean[left], variance[left]
    return found


def estimate_again(module: Any, rows: TorchRows, measured: Measured | None = None) -> int:
    """Measure means and deviations of all batch normalizations anew, from first to last.

    Parameters
    ----------
    module : transformers.PreTrainedModel
    rows : TorchRows
    measured : dict of str to tuple of torch.Tensor, optional
        What normalizations without scale and bias were given on these rows before channels went.
        What they hold was measured on other examples: then it changes by as much as their inputs
        did, so that a model that lost nothing answers as before.

    Returns
    -------
    int
        How many there are; 0 where the rows are too few to measure anything.
    """
    norms = batch_norms(module)
    batches = [batch for batch in rows.batches if len(batch) > 1]
    if not norms or not batches:
        return 0
    given = {path: module.get_submodule(path) for path in measured or {}}
    for path, norm in given.items():
        _lend(norm, *(measured or {})[path])
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    with torch.no_grad():
        for batch in batches:
            module(**rows.feed(batch))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
    for norm in given.values():
        _take_back(norm)
    return len(norms)


def _lend(norm: Any, mean: torch.Tensor, variance: torch.Tensor) -> None:
    """Give a normalization the scale and bias with which it could hold what was measured."""
    scale = (norm.running_var + norm.eps).sqrt()
    norm.weight = nn.Parameter((variance + norm.eps).sqrt() / scale, requires_grad=False)
    norm.bias = nn.Parameter((mean - norm.running_mean) / scale, requires_grad=False)


def _take_back(norm: Any) -> None:
    """Let what a normalization holds do what its scale and bias did."""
    scale = (norm.running_var + norm.eps).sqrt() / norm.weight
    norm.running_mean.sub_(norm.bias * scale)
    norm.running_var.copy_((scale.square() - norm.eps).clamp_min(0))
    norm.weight = norm.bias = None


def add_means(module: Any, rows: TorchRows, graph: ChannelGraph, kept: Kept) -> None:
    """Add what channels that go give on average to the biases of the layers that read them.

    Call it while they are there.
    """
    gone = _gone_by_reader(module, graph, kept)
    parts = {path: module.get_submodule(path) for path in gone}
    parts = {path: part for path, part in parts.items() if part.bias is not None}
    means = _means(module, rows, list(parts.values()))
    with torch.no_grad():
        for (path, part), (mean, _) in zip(parts.items(), means, strict=True):
            index = torch.tensor(gone[path])
            weight = part.weight[:, index]
            part.bias += (
                weight.flatten(2).sum(-1) @ mean[index]
                if weight.ndim > 2
                else (weight @ mean[index])
            )


def _gone_by_reader(module: Any, graph: ChannelGraph, kept: Kept) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for group, stays in zip(graph.groups, kept, strict=True):
        missing = sorted({*range(group.size)} - {*stays})
        for path, indices in readers(module, group) if missing else ():
            found.setdefault(path, []).extend(indices[missing].reshape(-1).tolist())
    return found


def _means(
    module: Any, rows: TorchRows, parts: list[Any]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Give mean and variance of each channel that goes into some modules."""
    sums = [torch.zeros(0)] * len(parts)
    squares, counts = [*sums], [0] * len(parts)

    def watch(number: int, part: nn.Module, given: torch.Tensor) -> None:
        axis = given.ndim - 1 if isinstance(part, nn.Linear) else 1
        flat = given.detach().transpose(axis, 0).flatten(1).double()
        first = not counts[number]
        sums[number] = flat.sum(1) + (0 if first else sums[number])
        squares[number] = flat.square().sum(1) + (0 if first else squares[number])
        counts[number] += flat.shape[1]

    with ExitStack() as stack, torch.no_grad():
        for number, part in enumerate(parts):
            hook = lambda it, inputs, n=number: watch(n, it, inputs[0])  # noqa: E731
            stack.callback(part.register_forward_pre_hook(hook).remove)
        for batch in rows.batches if parts else ():
            module(**rows.feed(batch))
    for total, square, count in zip(sums, squares, counts, strict=True):
        mean = total / count
        yield mean.float(), (square / count - mean.square()).clamp_min(0).float()
