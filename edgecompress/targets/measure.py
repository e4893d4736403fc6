"""Timing of candidates: a job made, run on a target, read as measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgecompress import timing
from edgecompress.disturbance import EMULATED, RULES, Loop, Rules
from edgecompress.processors import TextProcessor
from edgecompress.targets.agent.loop import TEXT_INPUTS
from edgecompress.targets.base import Clock, Feeds, Job, JobModel, Progress, Readings, Target, Way
from edgecompress.targets.inputs import InputSettings, timing_feeds
from edgecompress.targets.local import Local
from edgecompress.targets.probe import ask, loop_of
from edgecompress.tasks import task
from edgecompress.texts import text_of, words_of
from edgecompress.values import Candidate, Example, Json, Measurement

PASSES = 5  # times that each input is run: its median then drops two disturbed readings
ATTEMPTS = 2
LONG_MS = 5000.0
"""A loop that lasted so long has met the machine as it is: it is not run again."""
AT_ONCE = ("drift", "other load")
"""How the reasons begin that another attempt may be free of."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Readings of one interleaved loop with the conditions that they were taken under.

    `slice` tells a variant of the settings from the main one, such as ``threads:4``; `seconds` how
    long the sound of each input is, where it is one.
    """

    readings: Readings
    conditions: Json
    target: str
    rules: Rules = RULES
    slice: str | None = None
    seconds: tuple[float, ...] = ()

    def latencies(self, index: int) -> tuple[Measurement, ...]:
        """Give p50, p90 and p99 of model `index`, without what stands around it."""
        found = timing.latencies(
            self.readings.series[index],
            self._loop,
            target=self.target,
            conditions=self.conditions,
            rules=self.rules,
        )
        return tuple(replace(each, slice=self.slice) for each in found)

    def end_to_end(self, index: int) -> Measurement | None:
        """Give p50 of model `index` with what stands around it; None where that was not timed.

        Its condition ``covers`` says what that is on this target.
        """
        series = self._whole(index)
        if series is None:
            return None
        found = self._p50(series, "end_to_end_p50")
        return replace(
            found, conditions={**found.conditions, "covers": self.readings.covers[index]}
        )

    def end_to_end_speedup(self, reference: int, index: int, name: str) -> Measurement | None:
        """Give `speedup` with what stands around both models; None where that was not timed."""
        slow, fast = self._whole(reference), self._whole(index)
        if slow is None or fast is None:
            return None
        covers = self.readings.covers[index]
        return self._ratio(slow, fast, "end_to_end_speedup", {"reference": name, "covers": covers})

    def _whole(self, index: int) -> timing.Series | None:
        """Give the readings of model `index` with what was done before and behind them."""
        around = self.readings.around[index]
        if around is None:
            return None
        series = self.readings.series[index]
        return timing.Series(series.ns + around.ns, series.items)

    def real_time_factor(self, index: int) -> Measurement | None:
        """Give the time of model `index` over that of the sounds it hears; None without any."""
        if not self.seconds:
            return None
        series = self.readings.series[index]
        each = [
            float(np.median(series.ns[series.items == item])) for item in np.unique(series.items)
        ]
        heard = sum(self.seconds[item] for item in np.unique(series.items))
        found = self._p50(series, "real_time_factor")
        return replace(found, value=sum(each) / 1e9 / heard, unit="x", interval=None)

    def overhead(self, index: int) -> Measurement:
        """Give p50 of the null model `index`: what the harness itself costs."""
        # Microseconds swing by a third with the caches; what counts is how small they are.
        tolerant = replace(self.rules, max_drift=math.inf, min_cpu_share=0.0)
        return self._p50(self.readings.series[index], "harness_overhead", tolerant)

    def speedup(self, reference: int, index: int, name: str) -> Measurement:
        """Give the time of model `reference` over that of model `index`; `name` says of what."""
        series = self.readings.series
        return self._ratio(series[reference], series[index], "speedup", {"reference": name})

    def _ratio(
        self, slow: timing.Series, fast: timing.Series, metric: str, said: Json
    ) -> Measurement:
        found = timing.speedup(
            slow,
            fast,
            self._loop,
            target=self.target,
            metric=metric,
            conditions={**self.conditions, **said},
            rules=self.rules,
        )
        return replace(found, slice=self.slice)

    def temperature(self) -> Measurement | None:
        """Give the processor's temperature after the loop; None where it cannot be read."""
        before, after = (self.readings.machine.get(when, {}) for when in ("before", "after"))
        if after.get("temperature_c") is None:
            return None
        return Measurement(
            "temperature",
            float(after["temperature_c"]),
            "°C",
            self.target,
            slice=self.slice,
            invalid=EMULATED if self._loop.emulated else None,
            conditions={
                "before": before.get("temperature_c"),
                "throttled": self._loop.throttled,
                "duration_ms": round(self._loop.duration_ms),
            },
        )

    def spoiled(self) -> bool:
        """Tell whether a further attempt could give what this one could not."""
        real = self.readings.series[:-1]  # the last is the null model
        return self._loop.duration_ms < LONG_MS and any(
            str(timing.spoiled(series, self._loop, 0.9, self.rules)).startswith(AT_ONCE)
            for series in real
        )

    def _p50(self, series: timing.Series, metric: str, rules: Rules | None = None) -> Measurement:
        found = timing.percentile(
            series,
            self._loop,
            0.5,
            metric=metric,
            target=self.target,
            conditions=self.conditions,
            rules=rules or self.rules,
        )
        return replace(found, slice=self.slice)

    @property
    def _loop(self) -> Loop:
        return loop_of(self.readings, self.target)


def _tokenizer(candidate: Candidate, feeds: Feeds) -> tuple[Path | None, int]:
    """Give the tokenizer to time with a candidate, where the agent can feed its inputs."""
    if candidate.preprocessor is None or not set(feeds.arrays) <= TEXT_INPUTS:
        return None, 512
    limit = TextProcessor.load(candidate.preprocessor).max_length
    return candidate.preprocessor / "tokenizer.json", limit


def _way(candidate: Candidate, feeds: Feeds) -> Way | None:
    """Give what takes examples to a candidate and back; None where it answers step by step."""
    if candidate.task is None or task(candidate.task).generates:
        return None
    return Way(candidate.task, candidate.labels, tuple(feeds.arrays), candidate.preprocessor)


def time_candidates(
    candidates: Sequence[Candidate],
    examples: Sequence[Example],
    clock: Clock,
    target: Target,
    progress: Progress | None = None,
    *,
    inputs: InputSettings | None = None,
    attempts: int = ATTEMPTS,
    rules: Rules = RULES,
    slice: str | None = None,
    whole: bool = True,
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
    inputs : InputSettings, optional
        What to feed instead of examples.
    attempts : int
        A loop of less than five seconds that other work disturbed is run again, up to so many
        times in all; the last one counts, and what the times were has no say in that.
    rules : Rules
        When a reading must not be trusted.
    slice : str, optional
        Of the measurements, where the clock's settings are a variant.
    whole : bool
        Whether what stands around inferences is timed, too: on this machine all that the task does
        with an example, on others the tokenizer of texts.

    Raises
    ------
    TargetError
        When a model cannot be loaded or run there.
    DataError
        When the candidates cannot be given the same inputs.
    """
    feeds, timed = timing_feeds(candidates, examples, -(-clock.min_count // PASSES), inputs)
    source = (inputs or InputSettings()).source(timed)
    timed = timed if whole else ()
    texts = tuple(text_of(one) or words_of(one) for one in timed)
    unique = list({id(each): each for each in feeds}.values())
    models = []
    for candidate, each in zip(candidates, feeds, strict=True):
        tokenizer, limit = _tokenizer(candidate, each) if all(texts) and texts else (None, 512)
        index = next(k for k, other in enumerate(unique) if other is each)
        way = _way(candidate, each) if timed else None
        models.append(JobModel(candidate.model, index, tokenizer, limit, way))
    models.append(JobModel(None, models[0].feeds))
    longest = max(clock.max_duration_ms, clock.min_duration_ms)
    fields = replace(clock, max_duration_ms=longest).fields()
    job = Job("time", tuple(models), tuple(unique), texts=texts, examples=timed, **fields)
    attempt = 0
    while True:
        attempt += 1
        readings = ask(target, job, progress)
        conditions = _conditions(clock, feeds[0], readings, source)
        conditions["attempt"] = attempt
        found = Timing(readings, conditions, target.name, rules, slice, feeds[0].seconds)
        if attempt >= attempts or not found.spoiled():
            return found


def _conditions(clock: Clock, feeds: Feeds, readings: Readings, source: str) -> Json:
    """Say what one must know to repeat the loop, and what the machine was doing meanwhile."""
    conditions: Json = {
        "threads": clock.threads,
        "batch": 1,
        "inputs": len(np.unique(feeds.items)),
        "source": source,
        "scenario": "single stream",
        "arena": "on" if clock.arena else "off",
        "interleaved": len(readings.series) - 1,
    }
    if clock.affinity:
        conditions["affinity"] = list(clock.affinity)
    if readings.warmup:
        conditions["warmup_ms"] = round(readings.warmup["ms"])
        conditions["warmup_rounds"] = readings.warmup["rounds"]
        conditions["warmup_stable"] = readings.warmup["stable"]
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
    threads: int | Sequence[int] = 1,
    min_duration_ms: float = 2000.0,
    min_count: int = 100,
    progress: Progress | None = None,
    target: Target | None = None,
    max_warmup_ms: float = 3000.0,
) -> list[tuple[Measurement, ...]]:
    """Time candidates against the first of them; what ``context.measure`` calls.

    Parameters
    ----------
    candidates : sequence of Candidate
        The first is the reference of the ratios.
    examples : sequence of Example
    threads : int or sequence of int
        The first of several counts, as in `profile`.
    min_duration_ms : float
    min_count : int
    progress : callable, optional
    target : Target, optional
        This machine when left out.
    max_warmup_ms : float
        As of `Clock`; no warm-up is longer.

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
    first = threads if isinstance(threads, int) else threads[0]
    clock = Clock(
        threads=first,
        warmup_ms=min(Clock().warmup_ms, max_warmup_ms),
        max_warmup_ms=max_warmup_ms,
        min_duration_ms=min_duration_ms,
        min_count=min_count,
    )
    place = target or Local()
    timed = time_candidates(candidates, examples, clock, place, progress, whole=False)
    return [
        (*timed.latencies(index), timed.speedup(0, index, "first candidate"))
        for index in range(len(candidates))
    ]
