"""How many channels each layer keeps, when the whole model may cost so much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from edgecompress.errors import StageError
from edgecompress.surgery.channels.groups import ChannelGraph
from edgecompress.training.masksearch import best

Aim = Literal["channels", "size", "macs"]
Scope = Literal["global", "layer"]


def choose_widths(
    graph: ChannelGraph, scores: Sequence[np.ndarray], aim: Aim, share: float, multiple: int,
    scope: Scope = "global",
) -> list[int]:  # fmt: skip
    """Take blocks of channels away, each time that which is missed least for what it saves.

    Parameters
    ----------
    graph : ChannelGraph
    scores : sequence of numpy.ndarray
        Importance of each channel of each group.
    aim : {"channels", "size", "macs"}
    share : float
        Of the whole model's cost that may stay.
    multiple : int
        A group keeps a multiple of this, and at least as many, or all that it has.
    scope : {"global", "layer"}
        Whether the blocks of all groups are ranked together, or the group that still has the
        greatest share of its channels gives the next one, so that all lose alike.

    Returns
    -------
    list of int
        Channels that each group keeps.

    Raises
    ------
    StageError
        When the bound cannot be met; the text says what is possible.
    """
    widths = [group.size for group in graph.groups]
    whole = total = graph.cost(aim, widths)
    ascending = [np.concatenate([[0.0], np.cumsum(np.sort(one))]) for one in scores]
    neighbours = _neighbours(graph)
    prices: dict[int, tuple[float, int, float]] = {}

    def order(number: int) -> tuple[bool, float, float]:
        price = prices[number][0]
        left = widths[number] / graph.groups[number].size if scope == "layer" else 0.0
        return not np.isfinite(price), -left, price

    while total > share * whole + 1e-6:
        for number in range(len(widths)):
            if number not in prices:
                prices[number] = _price(graph, ascending[number], aim, widths, number, multiple)
        cheapest = min(prices, key=order)
        price, width, saved = prices[cheapest]
        if not np.isfinite(price):
            raise StageError(
                f"with at least {multiple} channels in each layer {total / whole:.3f} of the "
                f"{aim} stay, more than {share:.3f}; ask for less, or lower multiple_of"
            )
        widths[cheapest], total = width, total - saved
        for number in neighbours[cheapest]:
            prices.pop(number, None)
    return widths


def most_important(scores: Sequence[np.ndarray], widths: Sequence[int]) -> list[list[int]]:
    """Name the channels that stay, ascending."""
    return [best(one, width) for one, width in zip(scores, widths, strict=True)]


def _price(
    graph: ChannelGraph,
    ascending: np.ndarray,
    aim: Aim,
    widths: Sequence[int],
    number: int,
    multiple: int,
) -> tuple[float, int, float]:
    """Give what a group's next block costs in importance for each unit saved, and what is left."""
    there, size = widths[number], graph.groups[number].size
    narrower = (there - 1) // multiple * multiple
    if narrower < 1:
        return np.inf, there, 0.0
    fewer = [*widths]
    fewer[number] = narrower
    saved = graph.cost(aim, widths, number) - graph.cost(aim, fewer, number)
    lost = float(ascending[size - narrower] - ascending[size - there])
    return (lost / saved if saved > 0 else np.inf), narrower, saved


def _neighbours(graph: ChannelGraph) -> list[set[int]]:
    """Give for each group those that have a part in one of its tensors, and itself."""
    parts: dict[str, set[int]] = {}
    for number, group in enumerate(graph.groups):
        for place in group.places:
            parts.setdefault(place.tensor, set()).add(number)
    return [
        {number}.union(*(parts[place.tensor] for place in group.places))
        for number, group in enumerate(graph.groups)
    ]
