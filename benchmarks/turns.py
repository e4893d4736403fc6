"""Several models in one loop, so that what disturbs one disturbs all."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence

import numpy as np

from edgecompress.disturbance import Loop
from edgecompress.timing import Series, speedup


def in_turns(
    asks: Sequence[Callable[[int], object]], inputs: int, seconds: float
) -> list[tuple[str, str]]:
    """Time all models; who goes first changes from input to input.

    Parameters
    ----------
    asks : sequence of callable
        One for each model: answers the input of a number.
    inputs : int
        How many inputs there are; each comes as often as the others.
    seconds : float
        How long the loop goes on, at least.

    Returns
    -------
    list of (str, str)
        Each model's median time in ms, and how much faster it is than the first (95 %).
    """
    for ask in asks:
        for number in range(inputs):
            ask(number)
    times: list[list[int]] = [[] for _ in asks]
    items: list[int] = []
    gc.collect()
    gc.disable()
    end, clock = time.perf_counter() + seconds, time.perf_counter_ns
    while time.perf_counter() < end or len(items) % inputs:
        number = len(items) % inputs
        for step in range(len(asks)):
            index = (step + len(items)) % len(asks)
            begin = clock()
            asks[index](number)
            times[index].append(clock() - begin)
        items.append(number)
    gc.enable()
    series = [Series(np.array(each), np.array(items)) for each in times]
    found = []
    for one in series:
        ratio = speedup(series[0], one, Loop(seconds * 1e3), target="local")
        low, high = ratio.interval or (1.0, 1.0)
        told = f"{ratio.value:.2f} ({low:.2f}–{high:.2f})"
        found.append((f"{np.median(one.ns) / 1e6:.3f}", told))
    return found
