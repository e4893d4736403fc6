"""The shape that loses least under a bound on its time: depth, width, heads and neurons at once.

All four are weighed by one importance. A mask lies on each head, neuron and channel, and the sum of
its squared gradients is, to second order, twice what the model's answers move without that part
(`edgecompress.training.importance`). A layer that goes takes all of its heads and neurons along,
and so costs their sum; a narrower model costs the channels that go. For every width of the hidden
states a knapsack over the layers (`masksearch`) chooses heads and neurons of each, or that it
goes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgecompress.training.importance import Importance
from edgecompress.training.masksearch import Choices, least_cost, search

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
    """Among what the shape is chosen.

    Attributes
    ----------
    layers : int or None
        How many stay; None leaves that open.
    hidden : sequence of int
        Channels.
    heads, neurons : sequence of sequence of int
        Of each layer of the model before, should it stay.
    """

    layers: int | None
    hidden: Sequence[int]
    heads: Sequence[Sequence[int]]
    neurons: Sequence[Sequence[int]]


def layer_scores(importance: Importance) -> np.ndarray:
    """Give the importance of each layer: of all its heads and neurons, float64 (layers,)."""
    pairs = zip(importance.heads, importance.neurons, strict=True)
    return np.array([heads.sum() + neurons.sum() for heads, neurons in pairs])


def largest_layers(importance: Importance, count: int) -> tuple[int, ...]:
    """Name the most important layers, ascending."""
    order = np.argsort(-layer_scores(importance), kind="stable")
    return tuple(sorted(order[:count].tolist()))


def fastest(allowed: Allowed, frames: Mapping[int, float], times: Mapping[int, Times]) -> float:
    """Give the milliseconds of the fastest shape that is allowed."""
    layers = allowed.layers or 1
    found = []
    for hidden in allowed.hidden:
        each = sorted(
            times[hidden](heads[0], neurons[0])
            for heads, neurons in zip(allowed.heads, allowed.neurons, strict=True)
        )
        found.append(frames[hidden] + sum(each[:layers]))
    return min(found)


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
        Comparable between heads, neurons and channels.
    allowed : Allowed
    frames : mapping of int to float
        Milliseconds of a model without layers, by its hidden width.
    times : mapping of int to callable
        Milliseconds of a layer by its heads and neurons, for each hidden width.
    bound : float
        Milliseconds.
    """
    scores = layer_scores(importance)
    stay = {*largest_layers(importance, allowed.layers or 1)}
    best: tuple[float, Shape] | None = None
    for hidden in allowed.hidden:
        layers, pairs = [], []
        for place in range(len(scores)):
            options = _options(importance, allowed, place, times[hidden])
            none = (0.0, float(scores[place]), (0, 0))
            if place not in stay:
                options = [none] if allowed.layers else [none, *options]
            found = _undominated(options)
            costs, losses, counts = zip(*found, strict=True)
            numbers = np.arange(len(found), dtype=np.int64)
            layers.append(Choices(numbers, np.array(costs), np.array(losses)))
            pairs.append(counts)
        room = bound - frames[hidden]
        if least_cost(layers) > room:
            continue
        chosen = search(layers, room)
        lost = sum(layer.losses[at] for layer, at in zip(layers, chosen, strict=True))
        lost += _least(importance.hidden, hidden)
        sizes = [counts[at] for counts, at in zip(pairs, chosen, strict=True)]
        kept = tuple(place for place, (heads, _) in enumerate(sizes) if heads)
        shape = Shape(
            hidden, kept, tuple(sizes[n][0] for n in kept), tuple(sizes[n][1] for n in kept)
        )
        if best is None or lost < best[0]:
            best = lost, shape
    return best[1] if best else None


Option = tuple[float, float, tuple[int, int]]


def _options(importance: Importance, allowed: Allowed, place: int, time: Times) -> list[Option]:
    """Give time, loss, and heads and neurons of all that a layer may keep."""
    heads, neurons = importance.heads[place], importance.neurons[place]
    return [
        (time(few, some), _least(heads, few) + _least(neurons, some), (few, some))
        for few in allowed.heads[place]
        for some in allowed.neurons[place]
    ]


def _undominated(options: Sequence[Option]) -> list[Option]:
    """Keep, ascending in time, what loses less than all that is as fast."""
    found: list[Option] = []
    for option in sorted(options):
        if not found or option[1] < found[-1][1]:
            found.append(option)
    return found


def _least(scores: np.ndarray | None, keep: int) -> float:
    """Sum up the importance of all but the `keep` most important parts."""
    if scores is None:
        return 0.0
    return float(np.sort(scores)[: len(scores) - keep].sum())
