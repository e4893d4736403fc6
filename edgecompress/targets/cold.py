"""Cold starts: load time, first inference and memory, each start in a fresh process."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from edgecompress import timing
from edgecompress.disturbance import EMULATED
from edgecompress.targets.base import Feeds, Mode, Readings
from edgecompress.targets.inputs import keep
from edgecompress.targets.probe import Probe
from edgecompress.values import Json, Measurement, TorchModel

COLD_INPUTS = 8  # that each start runs: every further one costs time and hardly moves the peak


@dataclass(frozen=True, eq=False)
class Cold(Probe):
    """Measure load time, first inference and memory, each start in a fresh process.

    It gives ``load_time``, ``first_inference`` (ms), ``load_memory``, ``peak_memory``,
    ``memory_rise`` and, where it can be read, ``pss`` (bytes): the rise of resident memory by
    loading, its peak after inputs of short to the longest length, the rise to that peak over the
    bare runtime (ONNX Runtime or PyTorch imported, nothing loaded), and the proportional memory at
    the end. The files are in the page cache, as they have just been written.
    """

    mode: ClassVar[Mode] = "cold"
    needs: ClassVar[str] = "memory"
    count: ClassVar[int] = 64  # looked at, to find the longest and some in between

    def feeds(self) -> tuple[Feeds, str]:
        """Give a few inputs of all lengths."""
        feeds, source = super().feeds()
        return few_lengths(feeds), source

    def read(self, readings: Readings, feeds: Feeds, source: str) -> tuple[Measurement, ...]:
        """Take the medians over the starts."""
        starts = readings.cold[0]
        conditions: Json = {
            "threads": self.clock.threads,
            "arena": "on" if self.clock.arena else "off",
            "runtime": "torch" if isinstance(self.candidate.model, TorchModel) else "onnxruntime",
            "page_cache": "warm",
            "inputs": len(feeds.items),
            "source": source,
        }
        read_from = {"read_from": starts[0]["memory_source"]} if starts else {}
        invalid = EMULATED if any(start["emulated"] for start in starts) else None
        found = []

        def add(metric: str, unit: str, values: list[float], **extra: object) -> None:
            measured = timing.median_of_starts(
                metric, values, unit, target=self.target.name, conditions={**conditions, **extra},
                invalid=invalid,
            )  # fmt: skip
            found.append(measured)

        def rise(key: str) -> list[float]:
            return [float(start[key] - start["bare_bytes"]) for start in starts]

        add("load_time", "ms", [start["load_ns"] / 1e6 for start in starts])
        add("first_inference", "ms", [start["first_ns"] / 1e6 for start in starts])
        bare = [start["bare_bytes"] for start in starts]
        peaks = [float(start["peak_bytes"]) for start in starts]
        add("peak_memory", "bytes", peaks, bare_runtime=bare, **read_from)
        add("memory_rise", "bytes", rise("peak_bytes"), **read_from)
        resident = [start["loaded_bytes"] for start in starts]
        add("load_memory", "bytes", rise("load_peak_bytes"), resident=resident, **read_from)
        if starts and all(start["pss_bytes"] is not None for start in starts):
            pss = [float(start["pss_bytes"]) for start in starts]
            add("pss", "bytes", pss, read_from="smaps_rollup")
        return tuple(found)


def few_lengths(feeds: Feeds, count: int = COLD_INPUTS) -> Feeds:
    """Keep the first item, the largest and some in between.

    Any stretch of what `timing_feeds` gives holds short and long items alike; the largest decides
    how far the memory rises. Items that are all equally large, as images and windows of sound are,
    take the same memory: one of them is enough.
    """
    items = sorted(set(feeds.items.tolist()))
    size = dict.fromkeys(items, 0)
    for item, *arrays in zip(feeds.items.tolist(), *feeds.arrays.values(), strict=True):
        size[item] += sum(math.prod(array.shape) for array in arrays)
    if len(set(size.values())) == 1:
        return keep(feeds, items[:1])
    largest = max(items, key=lambda item: size[item])
    others = [item for item in items if item != largest]
    return keep(feeds, sorted([largest, *others[: count - 1]]))
