"""Times of graphs that are made to be timed, measured once for a target and kept.

What was measured under disturbance is used once and not kept.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecompress.context import Context
from edgecompress.errors import TargetError
from edgecompress.targets.base import Target
from edgecompress.targets.measure import time_interleaved
from edgecompress.values import Candidate, Json, find


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of each graph (p50), and why they must not be trusted, or None."""

    each: tuple[float, ...]
    invalid: str | None = None


class _NotKeptError(Exception):
    """Carries times out of the store that must not stay there."""

    def __init__(self, times: Times) -> None:
        self.times = times


def kept_times(
    key: Json,
    write: Callable[[Path], Sequence[Candidate]],
    context: Context,
    target: Target,
    threads: int = 1,
) -> Times:
    """Time graphs in turn, or take the times that were kept.

    Parameters
    ----------
    key : dict
        What the graphs and their times depend on beside target and threads (JSON).
    write : callable
        Writes the graphs into a folder; it is removed behind them.
    context : Context
        Its `cached` keeps the times.
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

    def build(folder: Path) -> None:
        candidates = write(folder / "graphs")
        context.progress(0, 1, f"timing {len(candidates)} graphs on {target.name}")
        timed = time_interleaved(
            candidates, (), threads, min_duration_ms=1000.0, min_count=60, target=target
        )
        shutil.rmtree(folder / "graphs")
        found = [find(measurements, "latency_p50") for measurements in timed]
        if not all(found):
            raise TargetError(f"{target.name} gave no latency of a graph")
        known = [p50 for p50 in found if p50 is not None]
        times = Times(
            tuple(p50.value for p50 in known),
            next((p50.invalid for p50 in known if p50.invalid), None),
        )
        if times.invalid:
            raise _NotKeptError(times)
        (folder / "times.json").write_text(json.dumps(times.each), encoding="utf-8")

    whole = {"target": target.fingerprint(), "threads": threads, **key}
    try:
        kept = context.cached(whole, build)
    except _NotKeptError as error:
        return error.times
    return Times(tuple(json.loads((kept / "times.json").read_text(encoding="utf-8"))))
