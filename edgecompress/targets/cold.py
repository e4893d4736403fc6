"""Cold starts: load time, first inference and memory, each start in a fresh process."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgecompress import timing
from edgecompress.disturbance import EMULATED
from edgecompress.targets.base import Clock, Feeds, Job, JobModel, Progress, Target
from edgecompress.targets.inputs import InputSettings, keep, timing_feeds
from edgecompress.values import Candidate, Example, Json, Measurement, TorchModel
from edgecompress.writing import temporary

LENGTHS = 64  # of examples that are looked at, to find the longest and some in between
COLD_INPUTS = 8  # that each start runs: every further one costs time and hardly moves the peak


def cold_measurements(
    candidate: Candidate,
    examples: Sequence[Example],
    clock: Clock,
    target: Target,
    *,
    inputs: InputSettings | None = None,
    progress: Progress | None = None,
) -> tuple[Measurement, ...]:
    """Measure load time, first inference and memory, each start in a fresh process.

    Returns
    -------
    tuple of Measurement
        ``load_time``, ``first_inference`` (ms), ``load_memory``, ``peak_memory``, ``memory_rise``
        and, where it can be read, ``pss`` (bytes): the rise of resident memory by loading, its
        peak after inputs of short to the longest length, the rise to that peak over the bare
        runtime (ONNX Runtime or PyTorch imported, nothing loaded), and the proportional memory at
        the end. The files are in the page cache, as they have just been written.

    Raises
    ------
    TargetError
        When the model cannot be loaded or run.
    """
    feeds, texts = timing_feeds([candidate], examples, LENGTHS, inputs)
    few = few_lengths(feeds[0])
    job = Job("cold", (JobModel(candidate.model),), (few,), **clock.fields())
    with temporary() as folder:
        starts = target.run(job, folder, progress).cold[0]
    runtime = "torch" if isinstance(candidate.model, TorchModel) else "onnxruntime"
    conditions: Json = {
        "threads": clock.threads,
        "arena": "on" if clock.arena else "off",
        "runtime": runtime,
        "page_cache": "warm",
        "inputs": len(few.items),
        "source": (inputs or InputSettings()).source(texts),
    }
    read = {"read_from": starts[0]["memory_source"]} if starts else {}
    invalid = EMULATED if any(start["emulated"] for start in starts) else None
    found = []

    def add(metric: str, unit: str, values: list[float], **extra: object) -> None:
        measured = timing.median_of_starts(
            metric, values, unit, target=target.name, conditions={**conditions, **extra},
            invalid=invalid,
        )  # fmt: skip
        found.append(measured)

    def rise(key: str) -> list[float]:
        return [float(start[key] - start["bare_bytes"]) for start in starts]

    add("load_time", "ms", [start["load_ns"] / 1e6 for start in starts])
    add("first_inference", "ms", [start["first_ns"] / 1e6 for start in starts])
    bare = [start["bare_bytes"] for start in starts]
    peaks = [float(start["peak_bytes"]) for start in starts]
    add("peak_memory", "bytes", peaks, bare_runtime=bare, **read)
    add("memory_rise", "bytes", rise("peak_bytes"), **read)
    resident = [start["loaded_bytes"] for start in starts]
    add("load_memory", "bytes", rise("load_peak_bytes"), resident=resident, **read)
    if starts and all(start["pss_bytes"] is not None for start in starts):
        pss = [float(start["pss_bytes"]) for start in starts]
        add("pss", "bytes", pss, read_from="smaps_rollup")
    return tuple(found)


def few_lengths(feeds: Feeds, count: int = COLD_INPUTS) -> Feeds:
    """Keep the first item, the largest and some in between.

    Any stretch of what `timing_feeds` gives holds short and long items alike; the largest decides
    how far the memory rises.
    """
    items = sorted(set(feeds.items.tolist()))
    size = dict.fromkeys(items, 0)
    for item, *arrays in zip(feeds.items.tolist(), *feeds.arrays.values(), strict=True):
        size[item] += sum(math.prod(array.shape) for array in arrays)
    largest = max(items, key=lambda item: size[item])
    others = [item for item in items if item != largest]
    return keep(feeds, sorted([largest, *others[: count - 1]]))
