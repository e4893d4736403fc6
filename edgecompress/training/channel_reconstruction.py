"""A convolutional network without some of its channels, fitted to what it was, without labels.

Layer after layer, from the first that reads fewer channels on, the weights of convolutions and
linear layers are solved for by least squares: their inputs are those of the narrow network, with
all that was fitted before, and the target is what the whole network's layer gives for the same
example. So each layer also undoes what the ones before it could not. Of large images some places
are drawn. Source: He et al., 2017, "Channel pruning for accelerating very deep neural networks".
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgecompress.surgery.channels.cutting import Kept, removed_from
from edgecompress.surgery.channels.groups import READERS, ChannelGraph
from edgecompress.training.importance.gradients import Tick
from edgecompress.training.normal_equations import Normal, correct
from edgecompress.training.rows import TorchRows, even_batches
from edgecompress.training.stepwise import EnoughError
from edgecompress.values import Json

LEAST_ROWS = 4
"""Places for each input of a layer that it is fitted on, at least; else it stays as it is."""
MOST_ROWS = 16
"""And at most, where there are more than `ENOUGH`."""
ENOUGH = 20_000


def reconstruct(
    module: Any, original: Any, rows: TorchRows, graph: ChannelGraph, kept: Kept, ridge: float,
    tick: Tick,
) -> list[Json]:  # fmt: skip
    """Fit a narrow module to its original, layer by layer; changes `module`.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        What `keep_channels` left of `original`.
    original : transformers.PreTrainedModel
        Not changed.
    rows : TorchRows
        Examples; labels are not looked at.
    graph : ChannelGraph
        Of the original.
    kept : sequence of sequence of int
        The channels of each group that are left.
    ridge : float
        Weight of staying near the weights that were there, as a share of the inputs' mean square.
    tick : callable
        Told the number of layers done.

    Returns
    -------
    list of dict
        Per layer: its ``name``, and the relative squared error ``before`` and ``after`` on the
        examples.
    """
    gone: dict[tuple[str, int], list[int]] = {}
    for place, indices in removed_from(graph, kept):
        gone.setdefault((place.tensor, place.axis), []).extend(indices.tolist())
    order = _order(original, rows)
    narrower = [at for at, path in enumerate(order) if (f"{path}.weight", 1) in gone]
    found = []
    for number, path in enumerate(order[min(narrower, default=len(order)) :]):
        part = module.get_submodule(path)
        outputs = np.arange(original.get_submodule(path).weight.shape[0])
        outputs = np.setdiff1d(outputs, gone.get((f"{path}.weight", 0), ()))
        if _is_fitted(part):
            fitted = _fit(module, original, path, torch.from_numpy(outputs), rows, ridge)
            found += [{"name": path, **fitted}] if fitted else []
        tick(number + 1)
    return found


def _is_fitted(part: Any) -> bool:
    """Tell whether a layer multiplies all its inputs with one matrix, over zeros at its ends."""
    if isinstance(part, nn.Linear):
        return True
    return part.groups == 1 and part.padding_mode == "zeros" and not isinstance(part.padding, str)


def _order(module: nn.Module, rows: TorchRows) -> list[str]:
    """Give the paths of the layers that run once for an example, in the order in which they do."""
    ran: list[str] = []
    with ExitStack() as stack, torch.inference_mode():
        for path, part in module.named_modules():
            if isinstance(part, READERS):
                note = lambda *_, it=path: ran.append(it)  # noqa: E731
                stack.callback(part.register_forward_pre_hook(note).remove)
        module(**rows.feed([0]))
    return [path for path in ran if ran.count(path) == 1]


def _fit(
    module: Any, original: Any, path: str, outputs: torch.Tensor, rows: TorchRows, ridge: float
) -> Json:
    """Fit one layer; give the errors, or nothing where there are too few places."""
    part = module.get_submodule(path)
    inputs = part.weight[0].numel()
    normal = Normal(inputs, len(outputs), intercept=part.bias is not None)
    generator = torch.Generator().manual_seed(0)
    share, count, energy = 1.0, 0, 0.0
    for batch in even_batches(rows.lengths):
        feed = rows.feed(batch)
        given, ours = _seen(module, part, feed)
        _, wanted = _seen(original, original.get_submodule(path), feed)
        axis = wanted.ndim - 1 if isinstance(part, nn.Linear) else 1
        target = _places(wanted.index_select(axis, outputs), axis)
        x, lack = _columns(part, given), target - _places(ours, axis)
        if not count:  # how many places of each example are enough
            total = len(x) * len(rows) / len(batch)
            share = min(1.0, max(ENOUGH, MOST_ROWS * inputs) / total)
        if share < 1:
            chosen = torch.randperm(len(x), generator=generator)[: round(share * len(x)) or 1]
            x, lack, target = x[chosen], lack[chosen], target[chosen]
        normal.add(x, lack)
        energy += float((target - target.mean(0)).double().square().sum())
        count += len(x)
    if count < LEAST_ROWS * inputs:
        return {}
    before, after = (error / max(energy, 1e-30) for error in correct(part, normal, ridge))
    return {"before": round(before, 6), "after": round(after, 6)}


def _seen(module: Any, part: nn.Module, feed: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a module up to one layer; give what goes into that and what it gives."""
    seen: list[torch.Tensor] = []

    def watch(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        seen[:] = [inputs[0], output]
        raise EnoughError

    hook = part.register_forward_hook(watch)
    try:
        with torch.no_grad():
            module(**feed)
    except EnoughError:
        pass
    finally:
        hook.remove()
    return seen[0], seen[1]


def _places(values: torch.Tensor, axis: int) -> torch.Tensor:
    """Give a row for each place, and a column for each channel."""
    return values.movedim(axis, -1).flatten(0, -2)


def _columns(part: Any, given: torch.Tensor) -> torch.Tensor:
    """Give what a layer's matrix is multiplied with, (places, inputs)."""
    if isinstance(part, nn.Linear):
        return given.flatten(0, -2)
    flat = isinstance(part, nn.Conv1d)
    sizes = [(0 if name == "padding" else 1, *getattr(part, name)) if flat else getattr(part, name)
             for name in ("kernel_size", "dilation", "padding", "stride")]  # fmt: skip
    made = functional.unfold(given.unsqueeze(2) if flat else given, *sizes)
    return _places(made, 1)
