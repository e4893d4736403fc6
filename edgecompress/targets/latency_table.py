"""How long attention takes by its heads, and the feed-forward part by its neurons, on a target.

The table is measured once for a target, shape and set of widths (`kept_times`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgecompress.context import Context
from edgecompress.targets.base import Target
from edgecompress.targets.kept_times import kept_times
from edgecompress.values import Candidate, Json

FORMAT = 2
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

    def write(folder: Path) -> list[Candidate]:
        return [make(count, folder) for counts, make in (heads, neurons) for count in counts]

    whole = {
        "kind": "latency of parts",
        "format": FORMAT,
        "heads": list(heads[0]),
        "neurons": list(neurons[0]),
        **key,
    }
    times = kept_times(whole, write, context, target, threads)
    each, count = [time / copies for time in times.each], len(heads[0])
    return LatencyTable(
        _rising(heads[0], each[:count]), _rising(neurons[0], each[count:]), times.invalid
    )


def _rising(counts: Sequence[int], times: Sequence[float]) -> dict[int, float]:
    """Round to 0.1 µs; a wider part that came out faster is as fast as the narrower one."""
    rising = np.maximum.accumulate(np.asarray(times, dtype=np.float64))
    return {int(c): round(float(t), 4) for c, t in zip(counts, rising, strict=True)}
