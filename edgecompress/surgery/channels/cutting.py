"""Channels taken out of a module, and modules whose tensors have other shapes than usual."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from edgecompress.errors import StageError
from edgecompress.surgery.channels.groups import ChannelGraph, Place

Kept = Sequence[Sequence[int]]
"""For each group of a graph the channels that stay, ascending."""


def removed_from(graph: ChannelGraph, kept: Kept) -> Iterator[tuple[Place, np.ndarray]]:
    """Go through the places of a graph, with the indices that go there."""
    for group, stays in zip(graph.groups, kept, strict=True):
        gone = np.setdiff1d(np.arange(group.size), np.asarray(stays, np.int64))
        for place in group.places if len(gone) else ():
            yield place, place.indices[gone].reshape(-1)


def silence(module: nn.Module, graph: ChannelGraph, kept: Kept) -> None:
    """Let nothing read the channels that are to go: what `keep_channels` must not change."""
    from edgecompress.surgery.channels.groups import READERS

    with torch.no_grad():
        for place, gone in removed_from(graph, kept):
            path, _, own = place.tensor.rpartition(".")
            part = module.get_submodule(path)
            if place.axis == 1 and own == "weight" and isinstance(part, READERS):
                part.weight[:, torch.from_numpy(gone)] = 0


def keep_channels(module: nn.Module, graph: ChannelGraph, kept: Kept) -> None:
    """Keep only the named channels of each group; changes `module`.

    Parameters
    ----------
    module : torch.nn.Module
    graph : ChannelGraph
        Of this module.
    kept : sequence of sequence of int

    Raises
    ------
    StageError
        When a group would be empty, or `kept` names channels that are not there.
    """
    for group, stays in zip(graph.groups, kept, strict=True):
        wrong = not stays or list(stays) != sorted(set(stays)) or stays[0] < 0
        if wrong or stays[-1] >= group.size:
            raise StageError(f"{group.name} has {group.size} channels; cannot keep {stays[:8]} …")
    gone: dict[str, dict[int, list[int]]] = {}
    for place, indices in removed_from(graph, kept):
        axes = gone.setdefault(place.tensor, {})
        axes.setdefault(place.axis, []).extend(indices.tolist())
    known = dict(_named(module))
    smaller: dict[int, torch.Tensor] = {}
    for name, axes in gone.items():
        value = known[name].detach()
        for axis, missing in axes.items():
            left = np.setdiff1d(np.arange(value.shape[axis]), missing)
            value = value.index_select(axis, torch.from_numpy(left).to(value.device))
        smaller[id(known[name])] = value.clone()
    for name, tensor in known.items():  # one that two modules share has two names
        if id(tensor) in smaller:
            _put(module, name, smaller[id(tensor)])


def changed_shapes(module: nn.Module, usual: nn.Module) -> dict[str, list[int]]:
    """Give the shapes of those tensors that another module of the same class has otherwise."""
    shapes = {name: tuple(one.shape) for name, one in _named(usual)}
    return {
        name: list(one.shape)
        for name, one in _named(module)
        if name in shapes and shapes[name] != tuple(one.shape)
    }


def set_shapes(module: nn.Module, shapes: Mapping[str, Sequence[int]]) -> None:
    """Give a module's tensors other shapes, without values; changes `module`.

    Raises
    ------
    ValueError
        When it lacks one of them, or a shape cannot be this tensor's.
    """
    known = dict(_named(module))
    for name, wanted in shapes.items():
        there = known.get(name)
        shape = [int(size) for size in wanted]
        if (
            there is None
            or len(shape) != there.ndim
            or not all(0 < new <= old for new, old in zip(shape, there.shape, strict=True))
        ):
            raise ValueError(f"{name} cannot have the shape {shape}")
        _put(module, name, torch.empty(shape, dtype=there.dtype, device=there.device))


def keep_inputs(module: nn.Module, name: str, count: int) -> None:
    """Let the layer of a weight read only the first channels of what it is given."""
    weight = dict(_named(module))[name]
    _put(module, name, weight.detach()[:, :count].clone())


def _named(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _put(module: nn.Module, name: str, value: torch.Tensor) -> None:
    """Put a tensor of another shape into its module, and tell that how wide it is."""
    path, _, own = name.rpartition(".")
    part: Any = module.get_submodule(path)
    before = getattr(part, own)
    if isinstance(before, nn.Parameter):
        setattr(part, own, nn.Parameter(value, before.requires_grad))
    else:
        setattr(part, own, value)
    if own == "weight" and isinstance(part, nn.Conv1d | nn.Conv2d):
        if part.groups > 1:  # each channel by itself
            part.groups = part.groups * value.shape[0] // before.shape[0]
        part.out_channels, part.in_channels = value.shape[0], value.shape[1] * part.groups
    elif own == "weight" and isinstance(part, nn.Linear):
        part.out_features, part.in_features = value.shape
    elif isinstance(part, nn.modules.batchnorm._BatchNorm) and value.ndim == 1:
        part.num_features = len(value)
