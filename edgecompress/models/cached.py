"""Whether a decoder that goes on from its cache says what it says when it reads all at once."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgecompress.generation.decoding import CachedDecoder, Graph
from edgecompress.generation.states import fed_back, unread
from edgecompress.models.runner import SessionRunner

STEPS = 4
"""Tokens that are read one by one, behind the rest."""


PROMPT, TIMED = 32, 24
"""Tokens that are read, and steps behind them that are timed."""


def step_times(graphs: Sequence[Graph], most: int) -> list[float]:
    """Give the median milliseconds of a step of each graph, which take turns token by token.

    `most` is how many tokens the graphs take.
    """
    total = min(PROMPT + TIMED, most)
    prompt = max(total // 2, total - TIMED)
    ids = np.arange(total) % 64
    decoders = [CachedDecoder(graph) for graph in graphs]
    found: list[list[float]] = [[] for _ in graphs]
    for decoder in decoders:
        decoder.step(ids[:prompt])
    for number in range(prompt, total):
        order = range(len(graphs)) if number % 2 else reversed(range(len(graphs)))
        for place in order:
            start = time.perf_counter()
            decoders[place].step(ids[number : number + 1])
            found[place].append(1e3 * (time.perf_counter() - start))
    return [float(np.median(each)) for each in found]


def keeps_states(graph: Graph) -> bool:
    """Whether a graph is fed back what it gave."""
    return bool(fed_back((spec.name for spec in graph.specs), graph.outputs))


def cached_difference(graph: SessionRunner, ids: NDArray[np.int64]) -> float:
    """Give the largest difference of logits when tokens are read at once, and step by step.

    Parameters
    ----------
    graph : SessionRunner
    ids : int64 (tokens,)
        More than one.
    """
    names = dict.fromkeys(("attention_mask", "position_ids"), ids[None])
    expected = graph(unread({"input_ids": ids[None], **names}, graph.specs))["logits"][0]
    decoder, worst = CachedDecoder(graph), 0.0
    first = max(1, len(ids) - STEPS)
    for stop in range(first, len(ids) + 1):
        found = decoder.step(ids[len(decoder.read) : stop])
        gap = float(np.abs(found.astype(np.float64) - expected[stop - 1]).max())
        worst = max(worst, gap if np.isfinite(gap) else float("inf"))
    return worst
