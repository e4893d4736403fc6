"""How long attention takes by its heads, and the feed-forward part by its neurons, on a target.

The table is measured once for a target, shape and set of widths, and kept; one that was measured
under disturbance is used once and not kept.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecompress.context import Context
from edgecompress.errors import TargetError
from edgecompress.targets.base import Target
from edgecompress.targets.measure import time_interleaved
from edgecompress.values import Candidate, Json, find

FORMAT = 1
"""Of the kept tables; raise it when graphs or measuring change."""

Write = Callable[[int, Path], Candidate]


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """Milliseconds of one attention and one feed-forward part by width.

    Attributes
    ----------
    heads, neurons : mapping of int to float
        Milliseconds by number of heads and of neurons.
    invalid : str or None
        Why these times must not be trusted.
    """

    heads: Mapping[int, float]
    neurons: Mapping[int, float]
    invalid: str | None = None

    def as_json(self) -> Json:
        """Give it as a step's ``measured``."""
        return {
            "attention_ms": {str(count): time for count, time in self.heads.items()},
            "feed_forward_ms": {str(count): time for count, time in self.neurons.items()},
            "invalid": self.invalid,
        }

    @classmethod
    def from_json(cls, document: Json) -> LatencyTable:
        """Read what `as_json` gave."""
        heads, neurons = document["attention_ms"], document["feed_forward_ms"]
        return cls(
            {int(count): float(time) for count, time in heads.items()},
            {int(count): float(time) for count, time in neurons.items()},
            document["invalid"],
        )


class _NotKeptError(Exception):
    """Carries a table out of the store that must not stay there."""

    def __init__(self, table: LatencyTable) -> None:
        self.table = table


def latency_table(
    key: Json,
    heads: tuple[Sequence[int], Write],
    neurons: tuple[Sequence[int], Write],
    copies: int,
    context: Context,
    target: Target,
    threads: int = 1,
) -> LatencyTable:
    """Measure the table, or take the one that was kept.

    Parameters
    ----------
    key : dict
        What the graphs depend on beside their widths (JSON).
    heads, neurons : (sequence of int, callable)
        The widths to measure, ascending, and how to write the graph of one into a folder.
    copies : int
        How often each graph repeats its part.
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
        raise TargetError(f"{target.name} measures no times, so that no latency can be aimed at")

    def build(folder: Path) -> None:
        graphs = folder / "graphs"
        candidates = [heads[1](count, graphs) for count in heads[0]]
        candidates += [neurons[1](count, graphs) for count in neurons[0]]
        context.progress(0, 1, f"timing {len(candidates)} parts on {target.name}")
        timed = time_interleaved(
            candidates, (), threads, min_duration_ms=1000.0, min_count=60, target=target
        )
        found, invalid = [], None
        for measurements in timed:
            p50 = find(measurements, "latency_p50")
            if p50 is None:
                raise TargetError(f"{target.name} gave no latency of a part")
            found.append(p50.value / copies)
            invalid = invalid or p50.invalid
        count = len(heads[0])
        table = LatencyTable(
            _rising(heads[0], found[:count]), _rising(neurons[0], found[count:]), invalid
        )
        if invalid:
            raise _NotKeptError(table)
        shutil.rmtree(graphs)
        (folder / "table.json").write_text(json.dumps(table.as_json()), encoding="utf-8")

    whole = {
        "kind": "latency of parts",
        "format": FORMAT,
        "target": target.fingerprint(),
        "threads": threads,
        "heads": list(heads[0]),
        "neurons": list(neurons[0]),
        **key,
    }
    try:
        kept = context.cached(whole, build)
    except _NotKeptError as error:
        return error.table
    document = json.loads((kept / "table.json").read_text(encoding="utf-8"))
    return LatencyTable.from_json(document)


def _rising(counts: Sequence[int], times: Sequence[float]) -> dict[int, float]:
    """Round to 0.1 µs; a wider part that came out faster is as fast as the narrower one."""
    rising = np.maximum.accumulate(np.asarray(times, dtype=np.float64))
    return {int(c): round(float(t), 4) for c, t in zip(counts, rising, strict=True)}
