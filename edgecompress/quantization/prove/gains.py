"""Read from interleaved measurements what is surely faster, and write that down as JSON.

A share of 1.02 whose interval reaches below 1 is no gain: the same file, timed against itself,
shows as much. What must not be trusted (emulated, disturbed) is no gain either.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecompress.models.inputs import largest_difference
from edgecompress.values import Feed, Json, Measurement, find


def sure_speedup(found: Sequence[Measurement]) -> float:
    """Give how much faster than the first candidate; 1 where that is not sure.

    Parameters
    ----------
    found : sequence of Measurement
        What ``context.measure`` gave for one candidate: its ``speedup`` (``x``) has an interval.
    """
    speedup = find(found, "speedup")
    if speedup is None or speedup.invalid is not None:
        return 1.0
    low, high = speedup.interval or (speedup.value, speedup.value)
    return speedup.value if low > 1 or high < 1 else 1.0


def round_json(found: Sequence[Measurement]) -> Json:
    """Give one candidate's times as a step's ``measured`` keeps them."""
    latency, speedup = find(found, "latency_p50"), find(found, "speedup")
    return {
        "latency_p50_ms": round(latency.value, 4) if latency else None,
        "speedup": round(speedup.value, 4) if speedup else None,
        "interval": list(speedup.interval) if speedup and speedup.interval else None,
        "invalid": (speedup.invalid or (latency.invalid if latency else None))
        if speedup
        else "not measured",
    }


def worst_difference(
    expected: Sequence[Sequence[np.ndarray]],
    found: Sequence[Sequence[np.ndarray]],
    feeds: Sequence[Feed],
) -> float:
    """Largest absolute difference over all `feeds`, padding aside; infinite for no numbers."""
    return max(
        largest_difference(before, after, feed)
        for before, after, feed in zip(expected, found, feeds, strict=True)
    )
