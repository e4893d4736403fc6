"""How long an encoder takes by its depth and widths, on a target: what a shape is searched by.

A layer's time is taken to be that of its heads plus that of its neurons, measured at some numbers
of them for each width of the hidden states, and read between those along a straight line. The table
is measured once for a target and what it is asked about, and kept; one that was measured under
disturbance is used once and not kept.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgecompress.context import Context
from edgecompress.errors import TargetError
from edgecompress.targets.base import Target
from edgecompress.targets.measure import time_interleaved
from edgecompress.values import Candidate, Json, find

FORMAT = 2
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

    @classmethod
    def from_json(cls, document: Json) -> ShapeTable:
        """Read what `as_json` gave."""

        def numbered(times: Mapping[str, float]) -> dict[int, float]:
            return {int(count): float(time) for count, time in times.items()}

        widths = {
            int(hidden): Width(
                float(found["frame"]), numbered(found["heads"]), numbered(found["neurons"])
            )
            for hidden, found in document["widths"].items()
        }
        return cls(float(document["before"]), widths, document["invalid"])


class _NotKeptError(Exception):
    """Carries a table out of the store that must not stay there."""

    def __init__(self, table: ShapeTable) -> None:
        self.table = table


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
    if "latency" not in target.metrics:
        raise TargetError(f"{target.name} measures no times, so that no speed can be aimed at")
    some_heads, some_neurons = spread(heads), spread(neurons)
    few, least = some_heads[0], some_neurons[0]
    asked: list[tuple[int, Layers]] = []
    for width in hidden:
        asked.append((width, ()))
        asked += [(width, [(count, least)] * COPIES) for count in some_heads]
        asked += [(width, [(few, count)] * COPIES) for count in some_neurons[1:]]

    def build(folder: Path) -> None:
        graphs = folder / "graphs"
        candidates = [before(graphs / "before")]
        for number, (width, layers) in enumerate(asked):
            candidates.append(write(width, layers, graphs / str(number)))
        context.progress(0, 1, f"timing {len(candidates)} shapes on {target.name}")
        timed = time_interleaved(
            candidates, (), threads, min_duration_ms=1000.0, min_count=60, target=target
        )
        found, invalid = [], None
        for measurements in timed:
            p50 = find(measurements, "latency_p50")
            if p50 is None:
                raise TargetError(f"{target.name} gave no latency of a shape")
            found.append(p50.value)
            invalid = invalid or p50.invalid
        shutil.rmtree(graphs)
        each = len(some_heads) + len(some_neurons)
        widths = {}
        for place, width in enumerate(hidden):
            frame, *rest = found[1 + place * each : 1 + (place + 1) * each]
            layer = np.maximum(np.asarray(rest) - frame, 0) / COPIES
            first = np.maximum.accumulate(layer[: len(some_heads)])
            wider = np.maximum.accumulate([first[0], *layer[len(some_heads) :]]) - first[0]
            widths[width] = Width(
                round(frame, 5), _rounded(some_heads, first), _rounded(some_neurons, wider)
            )
        table = ShapeTable(round(found[0], 5), widths, invalid)
        if invalid:
            raise _NotKeptError(table)
        (folder / "table.json").write_text(json.dumps(table.as_json()), encoding="utf-8")

    whole = {
        "kind": "latency of shapes",
        "format": FORMAT,
        "target": target.fingerprint(),
        "threads": threads,
        "asked": [[width, list(layers)] for width, layers in asked],
        **key,
    }
    try:
        kept = context.cached(whole, build)
    except _NotKeptError as error:
        return error.table
    return ShapeTable.from_json(json.loads((kept / "table.json").read_text(encoding="utf-8")))


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
