"""The channels of a module that can be removed, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from edgecompress.errors import StageError
from edgecompress.surgery.channels.operations import Follower

READERS = (nn.Conv1d, nn.Conv2d, nn.Linear)
"""Modules whose weight multiplies channels, outputs × inputs: what reads and what writes them."""


@dataclass(frozen=True, eq=False)
class Place:
    """Where channels of a group lie in one axis of a tensor.

    Attributes
    ----------
    tensor : str
        Name of a parameter or buffer.
    axis : int
    indices : numpy.ndarray
        int64 (channels, copies): the indices that belong to each channel.
    """

    tensor: str
    axis: int
    indices: np.ndarray


@dataclass(frozen=True, eq=False)
class Group:
    """Channels that lie side by side in the same places: those of one layer, or of one stream.

    Attributes
    ----------
    name : str
        Path of the first module that makes them.
    size : int
    places : tuple of Place
    """

    name: str
    size: int
    places: tuple[Place, ...]


@dataclass(frozen=True, eq=False)
class ChannelGraph:
    """What of a module's channels can be removed.

    Attributes
    ----------
    groups : tuple of Group
    shapes : dict of str to tuple of int
        Of every parameter and buffer that is saved.
    positions : dict of str to int
        How often the numbers of a weight are multiplied for one input.
    stopped : tuple of str
        Operations through which channels could not be followed.
    """

    groups: tuple[Group, ...]
    shapes: Mapping[str, tuple[int, ...]]
    positions: Mapping[str, int]
    stopped: tuple[str, ...]

    def cost(self, kind: str, widths: Sequence[int], only: int | None = None) -> float:
        """Give weights or multiply-accumulates of one input, with so many channels in each group.

        Parameters
        ----------
        kind : {"size", "macs", "channels"}
        widths : sequence of int
            Channels of each group.
        only : int, optional
            Count only the tensors in which this group has a part.
        """
        if kind == "channels":
            return float(sum(widths) if only is None else widths[only])
        names = self.shapes if only is None else {one.tensor for one in self.groups[only].places}
        total = 0.0
        for name in names:
            factor = 1 if kind == "size" else self.positions.get(name, 0)
            for axis, size in enumerate(self.shapes[name]) if factor else ():
                gone = sum(
                    copies * (self.groups[number].size - widths[number])
                    for number, copies in self._parts.get((name, axis), ())
                )
                factor *= size - gone
            total += factor
        return total

    @property
    def _parts(self) -> dict[tuple[str, int], list[tuple[int, int]]]:
        found: dict[tuple[str, int], list[tuple[int, int]]] = self.__dict__.get("_found", {})
        if not found:
            for number, group in enumerate(self.groups):
                for one in group.places:
                    found.setdefault((one.tensor, one.axis), []).append(
                        (number, one.indices.shape[1])
                    )
            self.__dict__["_found"] = found
        return found


def channel_graph(module: Any, feed: Mapping[str, torch.Tensor]) -> ChannelGraph:
    """Run a module once and find which of its channels can be removed.

    A channel can go when all that it meets is understood, when it is made by a convolution or a
    linear layer, and when only such layers read it. Channels that are normalized together (layer
    and group normalization) stay, as do those of the answers.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode; not changed.
    feed : mapping of str to torch.Tensor
        Inputs, with the batch first.

    Raises
    ------
    StageError
        When no channel can be removed; the text says what is in the way.
    """
    tensors = _tensors(module)
    follower = Follower(tensors, len(next(iter(feed.values()))))
    with torch.no_grad(), follower:
        answer = module(**feed)
    for one in _outputs(answer):
        follower.labels.fix(*follower.axes(one))
    saved = set(module.state_dict(keep_vars=True))
    lost = [one for name, one in tensors.items() if name not in saved]  # no file would hold them
    follower.labels.fix(*(labels for one in lost for labels in follower.axes(one)))
    shapes = {name: tuple(one.shape) for name, one in tensors.items() if name in saved}
    groups = _groups(module, tensors, follower)
    stopped = tuple(sorted(follower.stopped))
    if not groups:
        through = f"; none can be followed through {', '.join(stopped)}" if stopped else ""
        raise StageError(f"no channel can be removed from this model{through}")
    return ChannelGraph(groups, shapes, follower.positions, stopped)


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Give parameters and buffers of floats, each once."""
    found: dict[int, tuple[str, torch.Tensor]] = {}
    for name, one in [*module.named_parameters(), *module.named_buffers()]:
        if one.is_floating_point() and one.ndim:
            found.setdefault(id(one), (name, one))
    return dict(found.values())


def _outputs(answer: Any) -> list[torch.Tensor]:
    if isinstance(answer, torch.Tensor):
        return [answer]
    values = answer.values() if isinstance(answer, Mapping) else answer
    nested = isinstance(values, list | tuple) or isinstance(answer, Mapping)
    return [one for value in (values if nested else ()) for one in _outputs(value)]


def _groups(
    module: nn.Module, tensors: Mapping[str, torch.Tensor], follower: Follower
) -> tuple[Group, ...]:
    members: dict[int, dict[tuple[str, int], list[int]]] = {}
    for name, one in tensors.items():
        for axis, labels in enumerate(follower.axes(one)):
            for index, root in enumerate(follower.labels.roots(labels).tolist()):
                if root:
                    members.setdefault(root, {}).setdefault((name, axis), []).append(index)
    together: dict[Any, list[dict[tuple[str, int], list[int]]]] = {}
    for found in members.values():
        counts = tuple((place, len(indices)) for place, indices in found.items())
        together.setdefault(counts, []).append(found)
    groups = []
    for counts, channels in together.items():
        writers, readers = _roles(module, [place for place, _ in counts])
        if not writers or not readers:
            continue
        places = tuple(
            Place(name, axis, np.array([one[name, axis] for one in channels], np.int64))
            for (name, axis), _ in counts
        )
        groups.append(Group(writers[0], len(channels), places))
    return tuple(groups)


def _roles(module: nn.Module, places: Sequence[tuple[str, int]]) -> tuple[list[str], list[str]]:
    """Give the paths of the modules that make channels, and of those that read them."""
    writers: list[str] = []
    readers: list[str] = []
    for name, axis in places:
        path, _, own = name.rpartition(".")
        if own == "weight" and isinstance(module.get_submodule(path), READERS):
            (readers if axis == 1 else writers).append(path)
    return writers, readers
