"""How many channels each layer keeps, when the whole model may cost so much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from edgecompress.errors import StageError
from edgecompress.surgery.channels.groups import ChannelGraph
from edgecompress.training.masksearch import best

Aim = Literal["channels", "size", "macs"]
Scope = Literal["global", "layer"]
CUTS = 5
"""How often a model is cut and timed, at most, to find how far to cut it."""
CLOSE = 0.05
"""A time so little under its bound, as a share of it, is near enough."""
EDGE = 0.1
"""No cut lies nearer to the one before, as a share of what is left to search."""


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


def least_share(graph: ChannelGraph, multiple: int) -> float:
    """Give the share of multiply-accumulates below which `choose_widths` cannot cut."""
    whole = [group.size for group in graph.groups]
    least = [min(size, multiple) for size in whole]
    return graph.cost("macs", least) / graph.cost("macs", whole)


def share_in_time(
    bound: float, least: float, measured: Callable[[float], tuple[float, float]]
) -> tuple[float, dict[float, float]]:
    """Find how large a share of multiply-accumulates may stay within a time, in few cuts.

    Each cut lies on the straight line between the largest that was fast enough and the smallest
    that was not; the search ends when one is just fast enough.

    Parameters
    ----------
    bound : float
        Of the whole model's time, between 0 and 1.
    least : float
        No smaller share is tried.
    measured : callable
        Cuts the model to a share of its multiply-accumulates or less; gives the share that is left
        and its share of the whole time.

    Returns
    -------
    share : float
        The largest that was left and fast enough.
    times : dict of float to float
        What was measured, by the share that was left.

    Raises
    ------
    StageError
        When no cut was fast enough; the text says how fast the fastest is.
    """
    fast, slow = (least, 0.0), (1.0, 1.0)
    times: dict[float, float] = {}
    for last in [*[False] * (CUTS - 1), True]:
        rise = slow[1] - fast[1]
        part = ((1 - CLOSE / 2) * bound - fast[1]) / rise if rise > 0 else 0.5
        share = fast[0] + min(max(part, EDGE), 1 - EDGE) * (slow[0] - fast[0])
        left, time = measured(least if last and fast[0] == least else share)
        if left in times:
            break  # nothing lies between what was fast enough and what was not
        times[left] = time
        fast, slow = ((left, time), slow) if time <= bound else (fast, (left, time))
        if (1 - CLOSE) * bound <= fast[1]:
            break
    within = [left for left, time in times.items() if time <= bound]
    if not within:
        raise StageError(
            f"a latency of {bound:g} of the whole model's cannot be met; the fastest cut takes "
            f"{min(times.values()):.2f} of it. Ask for less, or lower multiple_of"
        )
    return max(within), times


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
