"""Energy per inference: by the machine's own meters, by a file of one outside, or not at all."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from systems import PI5_PMIC, PI5_WATTS, System

from edgecompress.disturbance import EMULATED
from edgecompress.errors import DataError
from edgecompress.targets import open_target
from edgecompress.targets.base import Clock
from edgecompress.targets.kinds.local import LocalSpec
from edgecompress.targets.local import Local
from edgecompress.targets.power import Energy, external, read_power
from edgecompress.values import Candidate

QUICK = Clock(warmup_ms=1.0, max_warmup_ms=1.0, min_duration_ms=1500.0, min_count=20)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return System(tmp_path, monkeypatch)


LOCAL = open_target("local")


def test_without_a_meter_there_is_no_number(system: System, tagger: Candidate) -> None:
    assert Energy(tagger, (), QUICK, LOCAL).measure() == ()


def test_by_the_power_chip_of_a_pi_5(system: System, tagger: Candidate) -> None:
    system.vcgencmd(pmic_read_adc=PI5_PMIC)
    (found,) = Energy(Candidate(tagger.model), (), QUICK, LOCAL).measure()
    assert (found.metric, found.unit, found.slice) == ("energy", "mJ", None)
    assert found.conditions["meter"] == "pmic"
    assert "idle power" in found.conditions["counts"]
    assert found.conditions["watts"] == pytest.approx(PI5_WATTS, rel=0.05)
    seconds = found.conditions["duration_ms"] / 1e3
    assert found.value * found.samples / 1e3 == pytest.approx(PI5_WATTS * seconds, rel=0.1)


def test_by_the_processors_counters(system: System, tagger: Candidate) -> None:
    system.rapl(p0=1_000, dram=1_000)
    done = threading.Event()

    def burn() -> None:
        counted = 1_000
        while not done.wait(0.05):
            counted += 50_000
            for index in range(2):  # aside and renamed, as a counter is never half written
                file = system.root / f"sys/class/powercap/intel-rapl:{index}/energy_uj"
                file.with_name("next").write_text(f"{counted}\n")
                file.with_name("next").replace(file)

    thread = threading.Thread(target=burn)
    thread.start()
    try:
        (found,) = Energy(Candidate(tagger.model), (), QUICK, LOCAL).measure()
    finally:
        done.set()
        thread.join()
    assert found.conditions["meter"] == "rapl"
    assert "dram, package-0" in found.conditions["counts"]
    assert found.value > 0
    assert found.invalid is None or "load" in found.invalid or "drift" in found.invalid


def write_meter(file: Path, times: np.ndarray, watts: float = 5.0) -> None:
    lines = [f"{moment:.3f},{watts},note" for moment in times]
    file.write_text("\n".join(["time,watts", *lines]) + "\n")


def test_by_a_meter_outside(system: System, tagger: Candidate, tmp_path: Path) -> None:
    file = tmp_path / "power.csv"
    now = time.time()
    write_meter(file, np.arange(now - 5, now + 120, 0.1), 5.0)
    target = LocalSpec(name="local", url="local", meter=file).open()
    (found,) = Energy(Candidate(tagger.model), (), QUICK, target, meter=file).measure()
    assert found.conditions["meter"] == "power.csv"
    assert found.conditions["watts"] == pytest.approx(5.0)
    seconds = found.conditions["duration_ms"] / 1e3
    assert found.value * found.samples / 1e3 == pytest.approx(5.0 * seconds, rel=0.05)


def test_a_file_that_ends_too_early(tmp_path: Path) -> None:
    file = tmp_path / "power.csv"
    write_meter(file, np.arange(100.0, 103.0, 0.1))
    found = external(file, 101.0, 104.0, wait_s=0.3)
    assert found.invalid is not None
    assert found.invalid.startswith("meter: ")
    assert "covers 100.0 to 102.9 s" in found.invalid


def test_a_file_that_lags_behind(tmp_path: Path) -> None:
    file = tmp_path / "power.csv"
    write_meter(file, np.arange(100.0, 101.0, 0.1))
    late = threading.Timer(0.4, write_meter, (file, np.arange(100.0, 104.0, 0.1)))
    late.start()
    found = external(file, 100.5, 103.5, wait_s=30.0)
    late.join()
    assert found.invalid is None
    assert found.joules == pytest.approx(15.0)


@pytest.mark.parametrize("times", [np.zeros(0), np.arange(200.0, 300.0), np.arange(0.0, 50.0)])
def test_a_file_of_another_time(times: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / "power.csv"
    write_meter(file, times)
    assert "let the meter write" in str(external(file, 100.0, 102.0, wait_s=0.0).invalid)


def test_a_meter_that_reads_too_seldom(tmp_path: Path) -> None:
    file = tmp_path / "power.csv"
    write_meter(file, np.arange(90.0, 120.0, 1.0))
    assert "too few readings: 3 of 8" in str(external(file, 100.0, 102.5, wait_s=0.0).invalid)


def test_a_gap_in_the_loop(tmp_path: Path) -> None:
    file = tmp_path / "power.csv"
    before, after = np.arange(95.0, 101.0, 0.1), np.arange(102.0, 110.0, 0.1)
    write_meter(file, np.concatenate([before, after]))
    found = external(file, 100.0, 103.0, wait_s=0.0)
    assert "has a gap of 1.1 s in the loop of 3.0 s" in str(found.invalid)
    assert math.isnan(found.joules)
    beside = external(file, 102.0, 105.0, wait_s=0.0)  # it ends where the loop starts
    assert beside.invalid is None
    assert beside.joules == pytest.approx(15.0)


@pytest.mark.parametrize("content", [None, "epoch,watts\n"])
def test_a_meter_that_says_nothing_gives_no_number(
    content: str | None, system: System, tagger: Candidate, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    file = tmp_path / "power.csv"
    if content is not None:
        file.write_text(content)
    monkeypatch.setattr("edgecompress.targets.power.external.__defaults__", (0.0,))
    short = replace(QUICK, min_duration_ms=100.0)
    (found,) = Energy(Candidate(tagger.model), (), short, LOCAL, meter=file).measure()
    assert math.isnan(found.value)
    assert str(found.invalid).startswith(f"meter: {file}")
    assert ";" in str(found.invalid)


def test_emulated_is_the_first_reason(system: System, tagger: Candidate, tmp_path: Path) -> None:
    file = tmp_path / "power.csv"
    now = time.time()
    short = replace(QUICK, min_duration_ms=100.0)
    for times in (np.arange(now - 5, now + 120, 0.01), np.arange(now - 5, now + 120, 1.0)):
        write_meter(file, times)
        (found,) = Energy(
            Candidate(tagger.model), (), short, Local(emulated=True), meter=file
        ).measure()
        assert found.invalid == EMULATED


def test_a_clock_that_differs(system: System, tagger: Candidate, tmp_path: Path) -> None:
    """The agent's clock runs an hour ahead; its loop cannot lie within its job."""

    class Ahead:
        name = "ahead"

        def run(self, *given: object) -> object:
            readings = LOCAL.run(*given)  # type: ignore[arg-type]
            shifted = {key: readings.energy[key] + 3600 for key in ("start_s", "end_s")}
            return replace(readings, energy={**readings.energy, **shifted})

    file = tmp_path / "power.csv"
    write_meter(file, np.arange(time.time(), time.time() + 7200, 1.0))
    (found,) = Energy(Candidate(tagger.model), (), QUICK, Ahead(), meter=file).measure()  # type: ignore[arg-type]
    assert "network time" in str(found.invalid)
    assert math.isnan(found.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("t,w\n1,2\nx,3\n", "power.csv:3"),
        ("1\n2\n", "epoch seconds, watts"),
        ("5,1\n4,1\n", "must not fall"),
        ("1,2\n2,nan\n", "power.csv:2: a reading that is no number"),
        ("1,2\ninf,2\n", "power.csv:2: a reading that is no number"),
    ],
)
def test_a_file_that_is_no_meters(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "power.csv"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        read_power(file)
    assert said in str(caught.value)
    assert str(external(file, 1.0, 2.0, wait_s=0.0).invalid).startswith("meter: ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    gone = external(tmp_path / "gone.csv", 1.0, 2.0, wait_s=0.0)
    assert "gone.csv: there is no such file of a power meter; start the meter" in str(gone.invalid)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    binary = external(tmp_path / "binary.csv", 1.0, 2.0, wait_s=0.0)
    assert "not UTF-8" in str(binary.invalid)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e3)), max_size=30))
def test_what_is_written_is_read(pairs: list[tuple[float, float]]) -> None:
    import tempfile

    pairs.sort()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "power.csv"
        file.write_text("".join(f"{moment!r},{power!r}\r\n" for moment, power in pairs))
        times, watts = read_power(file)
    assert list(zip(times, watts, strict=True)) == pairs
