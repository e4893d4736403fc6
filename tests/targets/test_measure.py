"""Candidates timed together on this machine: known and unknown graphs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from systems import System

from edgecompress.disturbance import EMULATED, Loop
from edgecompress.errors import DataError, TargetError
from edgecompress.targets.base import Clock, Feeds, Job, Progress, Readings
from edgecompress.targets.cold import Cold
from edgecompress.targets.inputs import InputSettings
from edgecompress.targets.local import Local
from edgecompress.targets.measure import time_candidates, time_interleaved
from edgecompress.targets.offline import Offline
from edgecompress.targets.operators import Operators
from edgecompress.texts import words_example
from edgecompress.values import Candidate, OnnxModel

QUICK = Clock(warmup_ms=5.0, max_warmup_ms=50.0, min_duration_ms=150.0, min_count=40, cold_starts=2)
SENTENCES = tuple(
    words_example(words=("muhammadu", "buhari", "na", "abuja")[:count], tags=("O",) * count)
    for count in (1, 2, 3, 4) * 5
)


def test_ratios_to_the_first(tagger: Candidate) -> None:
    found = time_interleaved(
        [tagger, tagger, tagger], SENTENCES, min_duration_ms=150.0, min_count=40
    )
    assert len(found) == 3
    for measurements in found:
        metrics = [m.metric for m in measurements]
        assert metrics == ["latency_p50", "latency_p90", "latency_p99", "speedup"]
        assert all(m.target == "local" for m in measurements)
    own = found[0][-1]
    assert (own.value, own.interval) == (1.0, (1.0, 1.0))
    assert own.conditions["paired"] is True


def test_tokenization_and_overhead(tagger: Candidate) -> None:
    timed = time_candidates([tagger], SENTENCES, QUICK, Local(), attempts=1)
    end_to_end, p50 = timed.end_to_end(0), timed.latencies(0)[0]
    assert end_to_end is not None
    assert end_to_end.value > p50.value > timed.overhead(1).value > 0
    assert timed.overhead(1).invalid is None
    conditions = p50.conditions
    assert (conditions["threads"], conditions["batch"], conditions["inputs"]) == (1, 1, 8)
    assert conditions["source"] == "examples"
    assert conditions["tokens"]["min"] >= 3


def test_under_emulation_nothing_that_a_clock_or_memory_gives_is_valid(
    tagger: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = System(tmp_path, monkeypatch)
    system.lay({"class/thermal/thermal_zone0/type": "cpu-thermal"})
    system.lay({"class/thermal/thermal_zone0/temp": 50000})
    place = Local(emulated=True)
    timed = time_candidates([tagger, tagger], SENTENCES, QUICK, place, attempts=1)
    found = [*timed.latencies(1), timed.end_to_end(1), timed.speedup(0, 1, "itself")]
    found += [timed.overhead(2), timed.temperature()]
    found += Offline(tagger, SENTENCES, QUICK, place, batch=2).measure()
    found += Operators(tagger, SENTENCES, QUICK, place).measure()
    found += Cold(tagger, SENTENCES, replace(QUICK, cold_starts=1), place).measure()
    metrics = {each.metric for each in found if each}
    assert {"end_to_end_p50", "speedup", "harness_overhead", "temperature"} <= metrics
    assert {"throughput", "operator_time", "peak_memory", "load_time"} <= metrics
    assert {each.invalid for each in found if each} == {EMULATED}


def test_every_measurement_says_where_its_inputs_come_from(
    tagger: Candidate, tmp_path: Path
) -> None:
    row = np.ones((1, 3), np.int64)
    np.savez(tmp_path / "inputs.npz", input_ids=row, attention_mask=row)
    fed = InputSettings(file=tmp_path / "inputs.npz")
    for texts, inputs, source in (
        ((), InputSettings(), "signature"), (SENTENCES, InputSettings(), "examples"),
        (SENTENCES, fed, "file"),
    ):  # fmt: skip
        given = {"inputs": inputs}
        timed = time_candidates([tagger], texts, QUICK, Local(), attempts=1, **given)
        found = [*timed.latencies(0), timed.overhead(1)]
        found += Operators(tagger, texts, QUICK, Local(), **given).measure()
        assert {each.conditions["source"] for each in found} == {source}


def test_an_unknown_graph_is_timed_from_its_signature(tagger: Candidate) -> None:
    foreign = Candidate(tagger.model)
    timed = time_candidates([foreign], (), QUICK, Local(), attempts=1)
    assert timed.latencies(0)[0].conditions["source"] == "signature"
    assert timed.end_to_end(0) is None
    starts = {m.metric: m for m in Cold(foreign, (), QUICK, Local()).measure()}
    assert starts["load_time"].samples == 2
    assert starts["peak_memory"].value > starts["memory_rise"].value > 0


def test_a_broken_candidate_is_named(tagger: Candidate, tmp_path: Path) -> None:
    assert isinstance(tagger.model, OnnxModel)
    content = bytearray(tagger.model.path.read_bytes())
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(bytes(content).replace(b"MatMul", b"MatMal"))
    with pytest.raises((TargetError, DataError), match="MatMal"):
        time_candidates([replace(tagger, model=OnnxModel(broken))], SENTENCES, QUICK, Local())


class Disturbed:
    """The real machine, which says of its first loops that it was disturbed."""

    name = "disturbed"
    metrics = frozenset({"latency"})

    def __init__(self, times: int) -> None:
        self.left = times
        self.runs = 0

    def fingerprint(self) -> str:
        return ""

    def run(self, job: Job, folder: Path, progress: Progress | None = None) -> Readings:
        self.runs += 1
        self.left -= 1
        share = 0.1 if self.left >= 0 else 1.0
        readings = Local().run(job, folder, progress)
        steady = tuple(replace(series, ns=series.ns * 0 + 10**6) for series in readings.series)
        return replace(readings, series=steady, loop=Loop(2000.0, 0.0, 1, share))


@pytest.mark.parametrize(("times", "runs"), [(0, 1), (1, 2), (9, 3)])
def test_a_disturbed_loop_is_run_again(times: int, runs: int, tagger: Candidate) -> None:
    machine = Disturbed(times)
    timed = time_candidates([tagger], SENTENCES, QUICK, machine, attempts=3)
    assert machine.runs == runs
    found = timed.latencies(0)[0]
    assert bool(found.invalid) == (times == 9)
    assert found.conditions["attempt"] == runs


def test_feeds_are_sent_once(tagger: Candidate) -> None:
    seen: list[tuple[Feeds, ...]] = []

    class Watching(Disturbed):
        def run(self, job: Job, folder: Path, progress: Progress | None = None) -> Readings:
            seen.append(job.feeds)
            return super().run(job, folder, progress)

    time_candidates([tagger, tagger], SENTENCES, QUICK, Watching(0))
    assert [len(feeds) for feeds in seen] == [1]
