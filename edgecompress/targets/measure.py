"""Timing and cold starts of candidates: jobs made, run on a target, read as measurements."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgecompress import timing
from edgecompress.disturbance import RULES, Loop, Rules
from edgecompress.errors import TargetError
from edgecompress.targets.agent.loop import TEXT_INPUTS
from edgecompress.targets.base import Feeds, Job, JobModel, Progress, Readings, Target
from edgecompress.targets.inputs import timing_feeds
from edgecompress.targets.local import Local
from edgecompress.tasks import Preprocessor
from edgecompress.values import Candidate, Example, Json, Measurement, TorchModel

PASSES = 5  # times that each input is run: its median then drops two disturbed readings
COLD_INPUTS = 64  # enough lengths for the memory arena to reach its peak


@dataclass(frozen=True, slots=True)
class Clock:
    """How to time; the fields are those of `Job`.

    A loop that other work disturbed is run again, up to `attempts` times; the last one counts, and
    what the times were has no say in that.
    """

    threads: int = 1
    warmup_ms: float = 300.0
    min_duration_ms: float = 2000.0
    max_duration_ms: float = 60000.0
    min_count: int = 400
    cold_starts: int = 3
    attempts: int = 2


@dataclass(frozen=True, slots=True)
class Timing:
    """Readings of one interleaved loop with the conditions that they were taken under."""

    readings: Readings
    conditions: Json
    target: str

    def latencies(self, index: int) -> tuple[Measurement, ...]:
        """Give p50, p90 and p99 of model `index`, without tokenization."""
        return timing.latencies(
            self.readings.series[index],
            self._loop,
            target=self.target,
            conditions=self.conditions,
        )

    def end_to_end(self, index: int) -> Measurement | None:
        """Give p50 of model `index` with its tokenization; None where it was not timed."""
        tokenize = self.readings.tokenize[index]
        if tokenize is None:
            return None
        series = self.readings.series[index]
        both = timing.Series(series.ns + tokenize.ns, series.items)
        return self._p50(both, "end_to_end_p50")

    def overhead(self, index: int) -> Measurement:
        """Give p50 of the null model `index`: what the harness itself costs."""
        # Microseconds swing by a third with the caches; what counts is how small they are.
        tolerant = replace(RULES, max_drift=math.inf, min_cpu_share=0.0)
        return self._p50(self.readings.series[index], "harness_overhead", tolerant)

    def speedup(self, reference: int, index: int, name: str) -> Measurement:
        """Give the time of model `reference` over that of model `index`; `name` says of what."""
        return timing.speedup(
            self.readings.series[reference],
            self.readings.series[index],
            self._loop,
            target=self.target,
            conditions={**self.conditions, "reference": name},
        )

    def spoiled(self) -> bool:
        """Tell whether a further attempt could give what this one could not."""
        real = self.readings.series[:-1]  # the last is the null model
        return not self._loop.emulated and any(
            timing.spoiled(series, self._loop, 0.9) for series in real
        )

    def _p50(self, series: timing.Series, metric: str, rules: Rules = RULES) -> Measurement:
        return timing.percentile(
            series,
            self._loop,
            0.5,
            metric=metric,
            target=self.target,
            conditions=self.conditions,
            rules=rules,
        )

    @property
    def _loop(self) -> Loop:
        if self.readings.loop is None:
            raise TargetError(f"{self.target}: the readings hold no timing loop")
        return self.readings.loop


def _tokenizer(candidate: Candidate, feeds: Feeds) -> tuple[Path | None, int]:
    """Give the tokenizer to time with a candidate, where the agent can feed its inputs."""
    if candidate.preprocessor is None or not set(feeds.arrays) <= TEXT_INPUTS:
        return None, 512
    limit = Preprocessor.load(candidate.preprocessor).max_length
    return candidate.preprocessor / "tokenizer.json", limit


def time_candidates(
    candidates: Sequence[Candidate],
    examples: Sequence[Example],
    clock: Clock,
    target: Target,
    progress: Progress | None = None,
) -> Timing:
    """Time `candidates`, and the null model as the last, interleaved in one job on `target`.

    Parameters
    ----------
    candidates : sequence of Candidate
    examples : sequence of Example
        Where the lengths come from; the same ones are run through every candidate.
    clock : Clock
    target : Target
    progress : callable, optional
        Given (done, total, what).

    Raises
    ------
    TargetError
        When a model cannot be loaded or run there.
    DataError
        When the candidates cannot be given the same inputs.
    """
    feeds, texts = timing_feeds(candidates, examples, -(-clock.min_count // PASSES))
    unique = list({id(each): each for each in feeds}.values())
    models = []
    for candidate, each in zip(candidates, feeds, strict=True):
        tokenizer, limit = _tokenizer(candidate, each) if texts else (None, 512)
        index = next(k for k, other in enumerate(unique) if other is each)
        models.append(JobModel(candidate.model, index, tokenizer, limit))
    models.append(JobModel(None, models[0].feeds))
    job = Job(
        "time",
        tuple(models),
        tuple(unique),
        texts=texts,
        threads=clock.threads,
        warmup_ms=clock.warmup_ms,
        min_duration_ms=clock.min_duration_ms,
        max_duration_ms=max(clock.max_duration_ms, clock.min_duration_ms),
        min_count=clock.min_count,
    )
    attempt = 0
    while True:
        attempt += 1
        with tempfile.TemporaryDirectory(prefix="edgecompress-") as folder:
            readings = target.run(job, Path(folder), progress)
        conditions = _conditions(clock, feeds[0], readings, texts)
        timed = Timing(readings, {**conditions, "attempt": attempt}, target.name)
        if attempt >= clock.attempts or not timed.spoiled():
            return timed


def _conditions(clock: Clock, feeds: Feeds, readings: Readings, texts: Sequence[object]) -> Json:
    """Say what one must know to repeat the loop, and what the machine was doing meanwhile."""
    conditions: Json = {
        "threads": clock.threads,
        "batch": 1,
        "inputs": len(np.unique(feeds.items)),
        "source": "examples" if texts else "signature",
        "warmup_ms": clock.warmup_ms,
        "interleaved": len(readings.series) - 1,
    }
    if "input_ids" in feeds.arrays:
        lengths = [row.shape[-1] for row in feeds.arrays["input_ids"]]
        conditions["tokens"] = {
            "min": min(lengths),
            "median": float(np.median(lengths)),
            "max": max(lengths),
        }
    if readings.loop is not None:
        conditions["duration_ms"] = round(readings.loop.duration_ms)
        if readings.loop.cpu_share is not None:
            conditions["cpu_share"] = round(readings.loop.cpu_share, 3)
    before = readings.machine.get("before", {})
    for key in ("governor", "temperature_c", "frequency_mhz", "load_average"):
        if before.get(key) is not None:
            conditions[key] = before[key]
    return conditions


def time_interleaved(
    candidates: Sequence[Candidate],
    examples: Sequence[Example],
    threads: int = 1,
    min_duration_ms: float = 2000.0,
    min_count: int = 100,
    progress: Progress | None = None,
    target: Target | None = None,
) -> list[tuple[Measurement, ...]]:
    """Time candidates against the first of them; what ``context.measure`` calls.

    Parameters
    ----------
    candidates : sequence of Candidate
        The first is the reference of the ratios.
    examples : sequence of Example
    threads : int
    min_duration_ms : float
    min_count : int
    progress : callable, optional
    target : Target, optional
        This machine when left out.

    Returns
    -------
    list of tuple of Measurement
        For each candidate ``latency_p50``, ``latency_p90``, ``latency_p99`` (ms) and ``speedup``
        (``x``: the first candidate's time over this one's).

    Raises
    ------
    TargetError
        When a model cannot be loaded or run.
    """
    clock = Clock(threads=threads, min_duration_ms=min_duration_ms, min_count=min_count)
    timed = time_candidates(candidates, examples, clock, target or Local(), progress)
    return [
        (*timed.latencies(index), timed.speedup(0, index, "first candidate"))
        for index in range(len(candidates))
    ]


def cold_measurements(
    candidate: Candidate, examples: Sequence[Example], clock: Clock, target: Target
) -> tuple[Measurement, ...]:
    """Measure load time, first inference and memory, each start in a fresh process.

    Returns
    -------
    tuple of Measurement
        ``load_time``, ``first_inference`` (ms), ``peak_memory``, ``memory_rise`` (bytes): the
        peak of resident memory after running inputs of all lengths, and its rise over the bare
        runtime (ONNX Runtime or PyTorch imported, nothing loaded). The files are in the page
        cache, as they have just been written.

    Raises
    ------
    TargetError
        When the model cannot be loaded or run.
    """
    feeds, _ = timing_feeds([candidate], examples, COLD_INPUTS)
    job = Job(
        "cold",
        (JobModel(candidate.model),),
        tuple(feeds),
        threads=clock.threads,
        cold_starts=clock.cold_starts,
    )
    with tempfile.TemporaryDirectory(prefix="edgecompress-") as folder:
        starts = target.run(job, Path(folder)).cold[0]
    runtime = "torch" if isinstance(candidate.model, TorchModel) else "onnxruntime"
    conditions: Json = {"threads": clock.threads, "runtime": runtime, "page_cache": "warm"}
    source = {"source": starts[0]["memory_source"]} if starts else {}

    def median(metric: str, values: list[float], unit: str, extra: Json) -> Measurement:
        return timing.median_of_starts(
            metric, values, unit, target=target.name, conditions=conditions | extra
        )

    return (
        median("load_time", [start["load_ns"] / 1e6 for start in starts], "ms", {}),
        median("first_inference", [start["first_ns"] / 1e6 for start in starts], "ms", {}),
        median("peak_memory", [float(s["peak_bytes"]) for s in starts], "bytes", source),
        median(
            "memory_rise",
            [float(s["peak_bytes"] - s["bare_bytes"]) for s in starts],
            "bytes",
            source,
        ),
    )
