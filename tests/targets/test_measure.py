"""Candidates timed together on this machine: known and unknown graphs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgecompress.disturbance import Loop
from edgecompress.errors import DataError, TargetError
from edgecompress.targets.base import Clock, Feeds, Job, Progress, Readings
from edgecompress.targets.cold import cold_measurements
from edgecompress.targets.local import Local
from edgecompress.targets.measure import time_candidates, time_interleaved
from edgecompress.values import Candidate, Example, OnnxModel

QUICK = Clock(warmup_ms=5.0, min_duration_ms=150.0, min_count=40, cold_starts=2)
SENTENCES = tuple(
    Example(words=("muhammadu", "buhari", "na", "abuja")[:count], tags=("O",) * count)
    for count in (1, 2, 3, 4) * 5
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


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


def test_an_unknown_graph_is_timed_from_its_signature(tagger: Candidate) -> None:
    foreign = Candidate(tagger.model)
    timed = time_candidates([foreign], (), QUICK, Local(), attempts=1)
    assert timed.latencies(0)[0].conditions["source"] == "signature"
    assert timed.end_to_end(0) is None
    starts = {m.metric: m for m in cold_measurements(foreign, (), QUICK, Local())}
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
