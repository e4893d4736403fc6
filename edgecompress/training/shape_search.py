"""The shapes that keep a bound on their time, to be run: depth, width, heads and neurons at once.

Heads and neurons are too many to try: a knapsack over the layers (`masksearch`) takes those with
the least Fisher information. Such sums say little of cuts so deep that most of a layer goes, and
nothing of layers and channels that go beside them. So there are candidates for every depth and
every width, one by the knapsack and one whose layers are all alike, and each of them is run: what
counts is how far its answers move from the whole model's (mean divergence of an answer).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from edgecompress.training.importance import Importance
from edgecompress.training.importance.effect import LayerEffects
from edgecompress.training.masksearch import Choices, least_cost, lost, search
from edgecompress.training.rows import TorchRows
from edgecompress.values import Json

Times = Callable[[int, int], float]
"""Milliseconds of a layer by its heads and neurons."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model has after the cut.

    Attributes
    ----------
    hidden : int
        Channels of the hidden states.
    layers : tuple of int
        The layers that stay, ascending, from 0.
    heads, neurons : tuple of int
        How many each of them keeps.
    """

    hidden: int
    layers: tuple[int, ...]
    heads: tuple[int, ...]
    neurons: tuple[int, ...]

    def as_json(self) -> Json:
        """Give it as a step's ``measured``."""
        found: Json = json.loads(json.dumps(asdict(self)))
        return found


@dataclass(frozen=True, slots=True)
class Allowed:
    """Among what a shape is chosen.

    Attributes
    ----------
    depths : sequence of tuple of int
        Layers that stay, ascending, for each depth.
    hidden : sequence of int
        Channels of the hidden states.
    heads, neurons : sequence of sequence of int
        How many each layer of the model before may keep, ascending.
    """

    depths: Sequence[tuple[int, ...]]
    hidden: Sequence[int]
    heads: Sequence[Sequence[int]]
    neurons: Sequence[Sequence[int]]


class Moves:
    """How far a model's answers move when layers or channels go.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        Left as it was.
    rows : TorchRows
        Labels are not looked at.
    """

    def __init__(self, module: Any, rows: TorchRows) -> None:
        self.rows = rows
        self.effects = LayerEffects(module, rows, "divergence")

    def depths(self, least: int) -> list[tuple[int, ...]]:
        """Leave out layers one by one, each time the one that is missed least, down to `least`."""
        effects = self.effects
        found = [tuple(effects.kept)]
        while len(effects.kept) > least:
            without = [effects.without(place) for place in range(len(effects.kept))]
            effects.leave_out(int(np.argmin(without)))
            found.append(tuple(effects.kept))
        return found

    def of(self, module: Any) -> float:
        """Run a model that was cut, whose answers are as many."""
        total = count = 0.0
        with torch.no_grad():
            for number, batch in enumerate(self.rows.batches):
                output = module(**self.rows.feed(batch))
                found = self.effects.moves(number, output)
                total, count = total + float(found.double().sum()), count + len(found)
        return total / max(1, count)


def fastest(allowed: Allowed, frames: Mapping[int, float], times: Mapping[int, Times]) -> float:
    """Give the milliseconds of the fastest shape that is allowed."""
    return min(
        frames[hidden]
        + sum(times[hidden](allowed.heads[n][0], allowed.neurons[n][0]) for n in layers)
        for hidden in allowed.hidden
        for layers in allowed.depths
    )


def shapes_within(
    importance: Importance,
    allowed: Allowed,
    frames: Mapping[int, float],
    times: Mapping[int, Times],
    bound: float,
) -> list[Shape]:
    """Give for each depth and width the shapes that lose least within the bound.

    One may keep other numbers in each layer, one keeps the same in all. Depths and widths that are
    not fast enough are left out, so that the list can be empty.

    Parameters
    ----------
    importance : Importance
        Of heads and neurons, comparable with each other.
    allowed : Allowed
    frames : mapping of int to float
        Milliseconds of a model without layers, by its hidden width.
    times : mapping of int to callable
        Milliseconds of a layer by its heads and neurons, for each hidden width.
    bound : float
        Milliseconds.
    """
    found: dict[Shape, None] = {}
    for hidden in allowed.hidden:
        each = [
            _options(importance, allowed, place, times[hidden])
            for place in range(len(allowed.heads))
        ]
        room = bound - frames[hidden]
        for kept in allowed.depths:
            options = [each[place] for place in kept]
            for sizes in (_uneven(options, room), _alike(options, room)):
                if sizes:
                    heads, neurons = zip(*sizes, strict=True)
                    found[Shape(hidden, kept, heads, neurons)] = None
    return [*found]


Option = tuple[float, float, tuple[int, int]]
"""Milliseconds, loss, and heads and neurons of what a layer may keep."""


def _options(importance: Importance, allowed: Allowed, place: int, time: Times) -> list[Option]:
    """Give what a layer may keep, ascending in time."""
    heads, neurons = allowed.heads[place], allowed.neurons[place]
    without = lost(importance.heads[place], heads), lost(importance.neurons[place], neurons)
    return sorted(
        (time(few, some), float(first + second), (few, some))
        for few, first in zip(heads, without[0], strict=True)
        for some, second in zip(neurons, without[1], strict=True)
    )


def _uneven(layers: Sequence[Sequence[Option]], room: float) -> list[tuple[int, int]] | None:
    """Choose what each layer keeps by a knapsack."""
    useful = [_useful(options) for options in layers]
    choices = [_choices(options) for options in useful]
    if least_cost(choices) > room:
        return None
    chosen = search(choices, room)
    return [options[at][2] for options, at in zip(useful, chosen, strict=True)]


def _alike(layers: Sequence[Sequence[Option]], room: float) -> list[tuple[int, int]] | None:
    """Choose what all layers keep alike."""
    tables = [{sizes: (time, loss) for time, loss, sizes in options} for options in layers]
    common = set(tables[0]).intersection(*tables[1:])
    totals = {sizes: np.sum([table[sizes] for table in tables], axis=0) for sizes in common}
    fits = {sizes: loss for sizes, (time, loss) in totals.items() if time <= room}
    return [min(fits, key=lambda sizes: (fits[sizes], sizes))] * len(layers) if fits else None


def _useful(options: Sequence[Option]) -> list[Option]:
    """Leave out what takes longer and loses no less."""
    found: list[Option] = []
    for option in options:
        if not found or option[1] < found[-1][1]:
            found.append(option)
    return found


def _choices(options: Sequence[Option]) -> Choices:
    costs, losses, _ = zip(*options, strict=True)
    return Choices(np.arange(len(options), dtype=np.int64), np.array(costs), np.array(losses))
