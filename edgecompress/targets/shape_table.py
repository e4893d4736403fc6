"""How long an encoder takes by its depth and widths, on a target: what a shape is searched by.

A layer's time is taken to be that of its heads plus that of its neurons, measured at some numbers
of them for each width of the hidden states, and read between those along a straight line. The table
is measured once for a target and what it is asked about (`kept_times`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgecompress.context import Context
from edgecompress.targets.base import Target
from edgecompress.targets.kept_times import kept_times
from edgecompress.values import Candidate, Json

FORMAT = 3
"""Of the kept tables; raise it when graphs or measuring change."""
WIDER = 1.25
"""Numbers of parts that are measured lie this many times apart, at least."""
COPIES = 4
"""Layers of a graph that is timed, so that they outweigh the cost of a call."""

Layers = Sequence[tuple[int, int]]
Write = Callable[[int, Layers, Path], Candidate]
"""Writes the graph of an encoder: hidden width, heads and neurons of each layer, where to."""


@dataclass(frozen=True, slots=True)
class Width:
    """Milliseconds of encoders of one width of the hidden states.

    Attributes
    ----------
    frame : float
        Without any layer.
    heads : mapping of int to float
        Of a layer with so many heads, and the fewest neurons.
    neurons : mapping of int to float
        What so many neurons add to a layer.
    """

    frame: float
    heads: Mapping[int, float]
    neurons: Mapping[int, float]

    def layer(self, heads: int, neurons: int) -> float:
        """Give the milliseconds of a layer."""
        return _between(self.heads, heads) + _between(self.neurons, neurons)


@dataclass(frozen=True, slots=True)
class ShapeTable:
    """Times of encoders by their shape.

    Attributes
    ----------
    before : float
        Milliseconds of the model before, in fp32.
    widths : mapping of int to Width
        By the width of the hidden states.
    invalid : str or None
        Why these times must not be trusted.
    """

    before: float
    widths: Mapping[int, Width]
    invalid: str | None = None

    def as_json(self) -> Json:
        """Give it as a step's ``measured``."""
        found: Json = json.loads(json.dumps(asdict(self)))
        return found


def shape_table(
    key: Json,
    before: Callable[[Path], Candidate],
    hidden: Sequence[int],
    heads: Sequence[int],
    neurons: Sequence[int],
    write: Write,
    context: Context,
    target: Target,
    threads: int = 1,
) -> ShapeTable:
    """Measure the table, or take the one that was kept.

    Parameters
    ----------
    key : dict
        What the graphs depend on beside their widths (JSON), the model before among it.
    before : callable
        Writes the graph of the model before into a folder.
    hidden, heads, neurons : sequence of int
        What a shape may have, ascending; all of `hidden` are measured, some of the others.
    write : callable
    context : Context
        Its `cached` keeps the table.
    target : Target
    threads : int
        ``intra_op_num_threads``.

    Raises
    ------
    TargetError
        When the target cannot time anything, or fails.
    """
    some_heads, some_neurons = spread(heads), spread(neurons)
    few, least = some_heads[0], some_neurons[0]
    asked: list[tuple[int, Layers]] = []
    for width in hidden:
        asked.append((width, ()))
        asked += [(width, [(count, least)] * COPIES) for count in some_heads]
        asked += [(width, [(few, count)] * COPIES) for count in some_neurons[1:]]

    def make(folder: Path) -> list[Candidate]:
        found = [before(folder / "before")]
        for number, (width, layers) in enumerate(asked):
            found.append(write(width, layers, folder / str(number)))
        return found

    whole = {
        "kind": "latency of shapes",
        "format": FORMAT,
        "asked": [[width, list(layers)] for width, layers in asked],
        **key,
    }
    times = kept_times(whole, make, context, target, threads)
    each = len(some_heads) + len(some_neurons)
    widths = {}
    for place, width in enumerate(hidden):
        frame, *rest = times.each[1 + place * each : 1 + (place + 1) * each]
        layer = np.maximum(np.asarray(rest) - frame, 0) / COPIES
        first = np.maximum.accumulate(layer[: len(some_heads)])
        wider = np.maximum.accumulate([first[0], *layer[len(some_heads) :]]) - first[0]
        widths[width] = Width(
            round(frame, 5), _rounded(some_heads, first), _rounded(some_neurons, wider)
        )
    return ShapeTable(round(times.each[0], 5), widths, times.invalid)


def spread(counts: Sequence[int]) -> list[int]:
    """Give some of the numbers, the first and the last among them, the further apart the larger.

    >>> spread(range(1, 13))
    [1, 2, 3, 4, 5, 7, 9, 12]
    """
    found = [counts[0]]
    for count in counts[1:-1]:
        if count >= WIDER * found[-1] and WIDER * count <= counts[-1]:
            found.append(count)
    return found if found[-1] == counts[-1] else [*found, counts[-1]]


def _rounded(counts: Sequence[int], times: np.ndarray) -> dict[int, float]:
    return {count: round(float(time), 5) for count, time in zip(counts, times, strict=True)}


def _between(times: Mapping[int, float], count: int) -> float:
    return float(np.interp(count, [*times], [*times.values()]))
