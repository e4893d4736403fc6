"""The shape that loses least under a bound on its time: depth, width, heads and neurons at once.

All four are weighed in one measure, how far the answers move from the whole model's (mean
divergence of an answer). Without layers, and with fewer channels, the model is run, as what such
large cuts do together is far more than the sum of what their parts do alone. Heads and neurons are
too many for that: half the Fisher information of their masks is the same measure to second order
(`edgecompress.training.importance`). For every depth and width a knapsack over the layers
(`masksearch`) chooses heads and neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edgecompress.surgery.hidden import keep_hidden
from edgecompress.training.importance import Importance
from edgecompress.training.importance.effect import LayerEffects
from edgecompress.training.masksearch import Choices, least_cost, lost, search
from edgecompress.training.rows import TorchRows

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


@dataclass(frozen=True, slots=True)
class Allowed:
    """Among what a shape is chosen, and what is lost with it.

    Attributes
    ----------
    depths : mapping of tuple of int to float
        Layers that stay, and how far answers move without the others.
    hidden : mapping of int to float
        Channels, and how far answers move with so many.
    heads, neurons : sequence of sequence of int
        How many each layer of the model before may keep.
    """

    depths: Mapping[tuple[int, ...], float]
    hidden: Mapping[int, float]
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

    @property
    def answers(self) -> int:
        """Number of answers that are compared."""
        return sum(len(each) for each in self.effects.wanted)

    def per_answer(self, importance: Importance) -> Importance:
        """Bring Fisher information into the measure of this class."""
        once = 1 if self.effects.first.kind == "vector" else 2
        factor = 1 / (once * max(1, self.answers))
        return Importance(
            [layer * factor for layer in importance.heads],
            [layer * factor for layer in importance.neurons],
        )

    def depths(self, least: int) -> dict[tuple[int, ...], float]:
        """Leave out layers one by one, each time the one that is missed least, down to `least`."""
        effects = self.effects
        found = {tuple(effects.kept): 0.0}
        while len(effects.kept) > least:
            without = [effects.without(place) for place in range(len(effects.kept))]
            place = int(np.argmin(without))
            effects.leave_out(place)
            found[tuple(effects.kept)] = without[place]
        return found

    def narrowed(self, module: Any, channels: Sequence[int]) -> float:
        """Keep only these channels of `module`, which is changed, and run it."""
        keep_hidden(module, channels)
        total = 0.0
        with torch.no_grad():
            for number, batch in enumerate(self.rows.batches):
                output = module(**self.rows.feed(batch))
                total += float(self.effects.moves(number, output).double().sum())
        return total / max(1, self.answers)


def fastest(allowed: Allowed, frames: Mapping[int, float], times: Mapping[int, Times]) -> float:
    """Give the milliseconds of the fastest shape that is allowed."""
    return min(
        frames[hidden]
        + sum(times[hidden](allowed.heads[n][0], allowed.neurons[n][0]) for n in layers)
        for hidden in allowed.hidden
        for layers in allowed.depths
    )


def best_shape(
    importance: Importance,
    allowed: Allowed,
    frames: Mapping[int, float],
    times: Mapping[int, Times],
    bound: float,
) -> Shape | None:
    """Choose the shape that loses least within the bound; None where none is fast enough.

    Parameters
    ----------
    importance : Importance
        Of heads and neurons, in the measure of `allowed`.
    allowed : Allowed
    frames : mapping of int to float
        Milliseconds of a model without layers, by its hidden width.
    times : mapping of int to callable
        Milliseconds of a layer by its heads and neurons, for each hidden width.
    bound : float
        Milliseconds.
    """
    best: tuple[float, Shape] | None = None
    for hidden, narrower in allowed.hidden.items():
        each = [
            _options(importance, allowed, place, times[hidden])
            for place in range(len(allowed.heads))
        ]
        room = bound - frames[hidden]
        for kept, shallower in allowed.depths.items():
            layers = [_choices(each[place]) for place in kept]
            if least_cost(layers) > room:
                continue
            chosen = search(layers, room)
            loss = narrower + shallower
            loss += sum(layer.losses[at] for layer, at in zip(layers, chosen, strict=True))
            if best is None or loss < best[0]:
                sizes = [each[place][at][2] for place, at in zip(kept, chosen, strict=True)]
                heads, neurons = zip(*sizes, strict=True)
                best = loss, Shape(hidden, kept, heads, neurons)
    return best[1] if best else None


Option = tuple[float, float, tuple[int, int]]
"""Milliseconds, loss, and heads and neurons of what a layer may keep."""


def _options(importance: Importance, allowed: Allowed, place: int, time: Times) -> list[Option]:
    """Give what a layer may keep, ascending in time, where nothing as fast loses less."""
    heads, neurons = allowed.heads[place], allowed.neurons[place]
    without = lost(importance.heads[place], heads), lost(importance.neurons[place], neurons)
    options = [
        (time(few, some), float(first + second), (few, some))
        for few, first in zip(heads, without[0], strict=True)
        for some, second in zip(neurons, without[1], strict=True)
    ]
    found: list[Option] = []
    for option in sorted(options):
        if not found or option[1] < found[-1][1]:
            found.append(option)
    return found


def _choices(options: Sequence[Option]) -> Choices:
    costs, losses, _ = zip(*options, strict=True)
    return Choices(np.arange(len(options), dtype=np.int64), np.array(costs), np.array(losses))
