"""What a structure costs, and the structure that is chosen: heads and neurons of every layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecompress.errors import StageError
from edgecompress.surgery.families import Block, blocks
from edgecompress.training import masksearch
from edgecompress.training.importance import Importance, MaskGradients

Table = Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Costs:
    """What a model's parts cost, in one measure.

    Attributes
    ----------
    heads, neurons : tuple of callable
        For each layer, the cost of keeping so many.
    fixed : float
        Of all that is not in heads and neurons.
    """

    heads: tuple[Callable[[int], float], ...]
    neurons: tuple[Callable[[int], float], ...]
    fixed: float = 0.0

    def total(self, heads: Sequence[int], neurons: Sequence[int]) -> float:
        """Give the cost of a model with so many heads and neurons in its layers."""
        parts = [cost(count) for cost, count in zip(self.heads, heads, strict=True)]
        parts += [cost(count) for cost, count in zip(self.neurons, neurons, strict=True)]
        return self.fixed + sum(parts)


def sizes(module: Any) -> tuple[list[int], list[int]]:
    """Give the numbers of heads and of neurons of every layer."""
    found = list(blocks(module))
    return [block.heads for block in found], [block.neurons for block in found]


def weight_costs(module: Any) -> Costs:
    """Count weights, embeddings and all; weights that layers share count once."""
    found = list(blocks(module))
    per = [_weights(block) for block in found]
    total = sum(parameter.numel() for parameter in module.parameters())
    inside = sum(
        head * block.heads + neuron * block.neurons
        for block, (head, neuron) in zip(found, per, strict=True)
    )
    return Costs(
        tuple(_times(head) for head, _ in per),
        tuple(_times(neuron) for _, neuron in per),
        total - inside,
    )


def mac_costs(module: Any, tokens: int) -> Costs:
    """Count the blocks' multiply-accumulates for one token of a text of `tokens`.

    Of attention: the four matrices, and scores and sums over all tokens.
    """
    heads, neurons = [], []
    for block in blocks(module):
        head, neuron = _weights(block, bias=False)
        heads.append(_times(head + 2 * tokens * block.head_size * block.group))
        neurons.append(_times(neuron))
    return Costs(tuple(heads), tuple(neurons))


def table_costs(module: Any, heads: Table, neurons: Table) -> Costs:
    """Take the blocks' times from a table, which holds every number of parts that is asked for."""
    count = len(list(blocks(module)))
    return Costs((heads.__getitem__,) * count, (neurons.__getitem__,) * count)


def steps(there: int, multiple: int, most: int) -> list[int]:
    """Give at most about `most` numbers of parts for a layer to keep: multiples, and all.

    >>> steps(64, 8, 4)
    [16, 32, 48, 64]
    """
    width = max(1, -(-there // most))
    return masksearch.counts_between(there, -(-width // multiple) * multiple)


def under_bound(
    importance: Importance,
    costs: Costs,
    counts: tuple[Sequence[Sequence[int]], Sequence[Sequence[int]]],
    bound: float,
    what: str,
    whole: float,
) -> tuple[list[int], list[int]]:
    """Choose how many heads and neurons every layer keeps, least lost under a bound.

    Parameters
    ----------
    importance : Importance
        Comparable between heads and neurons.
    costs : Costs
    counts : (sequence, sequence)
        For each layer, how many heads and how many neurons it may keep, ascending to all.
    bound : float
        In the unit of `costs`.
    what : str
        What is bounded, for the error.
    whole : float
        Cost of the model that shares are taken of.

    Raises
    ------
    StageError
        When the bound cannot be met; the text says what can.
    """
    scores = [*importance.heads, *importance.neurons]
    each = [*costs.heads, *costs.neurons]
    layers = [
        masksearch.choices(score, list(allowed), [cost(count) for count in allowed])
        for score, allowed, cost in zip(scores, [*counts[0], *counts[1]], each, strict=True)
    ]
    least = costs.fixed + masksearch.least_cost(layers)
    if least > bound:
        raise StageError(
            f"target: {what} of {bound / whole:.3f} of the model before cannot be met; with the "
            f"fewest heads and neurons in every layer it is {np.ceil(least / whole * 1e3) / 1e3:g}"
        )
    found = masksearch.search(layers, bound - costs.fixed)
    return found[: len(costs.heads)], found[len(costs.heads) :]


def most_important(importance: Importance, counts: tuple[list[int], list[int]]) -> Kept:
    """Name the most important parts of every layer, so many of each."""

    def choose(layers: list[np.ndarray], keep: list[int]) -> list[list[int]]:
        return [masksearch.best(score, count) for score, count in zip(layers, keep, strict=True)]

    return Kept(choose(importance.heads, counts[0]), choose(importance.neurons, counts[1]))


def rearranged(gradients: MaskGradients, counts: tuple[list[int], list[int]]) -> Kept:
    """Name the parts of every layer whose others have the least joint effect."""

    def choose(layers: list[np.ndarray], keep: list[int]) -> list[list[int]]:
        return [masksearch.rearrange(g, count) for g, count in zip(layers, keep, strict=True)]

    return Kept(choose(gradients.heads, counts[0]), choose(gradients.neurons, counts[1]))


@dataclass(frozen=True, slots=True)
class Kept:
    """What every layer keeps, ascending."""

    heads: list[list[int]]
    neurons: list[list[int]]

    @property
    def counts(self) -> tuple[list[int], list[int]]:
        """How many of each."""
        return [len(each) for each in self.heads], [len(each) for each in self.neurons]


def _weights(block: Block, bias: bool = True) -> tuple[int, int]:
    """Count the weights that belong to one head and to one neuron."""
    heads = neurons = 0
    for role in block.family.roles:
        part = block.part(role)
        count = part.weight.numel()
        if bias and part.bias is not None and role not in ("output", "ffn_out"):
            count += part.bias.numel()
        if role.startswith("ffn"):
            neurons += count
        else:
            heads += count
    return heads // block.heads, neurons // block.neurons


def _times(each: float) -> Callable[[int], float]:
    return lambda count: each * count
