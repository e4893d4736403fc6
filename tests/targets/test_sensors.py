"""Readers of the kernel's and the firmware's own figures, on a system laid out in a folder."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from systems import PI5_PMIC, PI5_WATTS, System

from edgecompress.targets.agent import energy, firmware, sensors
from edgecompress.targets.archive import agent_archive


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    return System(tmp_path, monkeypatch)


def test_a_system_that_says_nothing(system: System) -> None:
    state = sensors.machine_state()
    for key in ("frequency_mhz", "base_frequency_mhz", "governor", "temperature_c", "pi_throttled"):
        assert state[key] is None
    assert state["zones"] == []
    assert energy.meters() == []
    assert json.loads(json.dumps(state)) == state


def test_clock_and_governor(system: System) -> None:
    system.core(cpufreq__scaling_governor="ondemand", cpufreq__scaling_cur_freq=1_500_000)
    system.core(cpufreq__base_frequency=2_000_000, cpufreq__scaling_max_freq=1_800_000)
    state = sensors.surroundings()
    assert (state["governor"], state["frequency_mhz"]) == ("ondemand", 1500)
    assert state["base_frequency_mhz"] == 1800  # a person's own limit is no throttling


def test_base_frequency_of_the_firmware_tables(system: System) -> None:
    system.core(acpi_cppc__nominal_freq=3200, cpufreq__scaling_max_freq=4_900_000)
    assert sensors.base_frequency_mhz() == 3200


def test_arm_cores_have_no_boost(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    system.core(cpufreq__cpuinfo_max_freq=1_800_000)
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert sensors.base_frequency_mhz() == 1800
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert sensors.base_frequency_mhz() is None


def test_temperature_is_the_processors_own(system: System) -> None:
    system.lay(
        {"class/thermal/thermal_zone0/type": "iwlwifi_1", "class/thermal/thermal_zone0/temp": 90000}
    )
    system.lay({"class/thermal/thermal_zone1/type": "cpu-thermal"})
    system.lay({"class/thermal/thermal_zone1/temp": 61250})
    system.lay({"class/thermal/thermal_zone1/trip_point_0_type": "critical"})
    system.lay({"class/thermal/thermal_zone1/trip_point_0_temp": 110000})
    system.lay({"class/thermal/thermal_zone1/trip_point_1_type": "passive"})
    system.lay({"class/thermal/thermal_zone1/trip_point_1_temp": 85000})
    found = sensors.zones()
    assert [zone["trip_c"] for zone in found] == [None, 85]
    assert sensors.temperature_c(found) == 61.25


def test_temperature_of_a_chip_without_a_zone(system: System) -> None:
    system.lay({"class/hwmon/hwmon0/name": "nvme", "class/hwmon/hwmon0/temp1_input": 70000})
    system.lay({"class/hwmon/hwmon1/name": "k10temp", "class/hwmon/hwmon1/temp1_input": 48500})
    assert sensors.temperature_c([]) == 48.5


def test_throttling_of_a_raspberry_pi(system: System) -> None:
    system.vcgencmd(get_throttled="throttled=0x50005\n")
    assert sensors.surroundings()["pi_throttled"] == "0x50005"
    system.lay({"devices/platform/soc/soc:firmware/get_throttled": "4"})
    assert sensors.surroundings()["pi_throttled"] == "4"  # asked first: it starts no process


def test_a_firmware_that_does_not_know(system: System) -> None:
    system.vcgencmd(get_throttled='error=1 error_msg="Command not registered"')
    assert firmware.throttled() is None
    assert firmware.ask("no_such_question") is None


def test_power_of_a_pi_5(system: System) -> None:
    system.vcgencmd(pmic_read_adc=PI5_PMIC)
    assert firmware.pmic_watts() == pytest.approx(PI5_WATTS)
    assert energy.meters() == ["pmic"]
    watch = energy.Watch()
    time.sleep(0.4)
    found = watch.stop()
    seconds = found["end_s"] - found["start_s"]
    counted = found["meters"]["pmic"]
    assert counted["joules"] == pytest.approx(PI5_WATTS * seconds, rel=0.05)
    assert counted["samples"] >= 3


def test_packages_and_memory_are_added_and_their_parts_are_not(system: System) -> None:
    system.rapl(p0=5_000_000, core=1_000_000, p1=0, dram=7, psys=9)
    assert sorted(energy.rapl_domains()) == ["dram", "package-0", "package-1"]
    watch = energy.Watch()
    system.rapl(p0=8_000_000, core=3_000_000, p1=500_000, dram=250_007, psys=99_000_000)
    assert watch.stop()["meters"]["rapl"]["joules"] == pytest.approx(3.0 + 0.5 + 0.25)


def test_a_whole_platform_where_there_is_nothing_finer(system: System) -> None:
    system.rapl(psys=1_000_000)
    assert list(energy.rapl_domains()) == ["psys"]


def test_a_counter_that_stands_still_is_no_meter(system: System) -> None:
    system.rapl(p0=0)
    assert energy.Watch().stop()["meters"] == {}


def test_a_counter_that_must_not_be_read(system: System, tmp_path: Path) -> None:
    system.rapl(p0=1_000_000)
    counter = tmp_path / "root/sys/class/powercap/intel-rapl:0/energy_uj"
    counter.unlink()
    counter.mkdir()  # refused to root, too, whom no permission stops
    assert energy.meters() == []


def test_a_counter_that_goes_away(system: System, tmp_path: Path) -> None:
    system.rapl(p0=1_000_000)
    watch = energy.Watch()
    (tmp_path / "root/sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    assert watch.stop()["meters"] == {}


@given(st.integers(0, 10**9), st.integers(0, 10**9 - 1))
def test_a_counter_that_starts_anew(before: int, counted: int) -> None:
    after = (before + counted) % (10**9 + 1)
    found = energy.joules(before, after, 10**9 + 1)
    assert found == pytest.approx(counted / 1e6)


def test_a_counter_that_fell_and_whose_range_is_not_known() -> None:
    assert energy.joules(5e6, 1e6, None) is None
    assert energy.joules(5e6, 1e6, 1e6) is None
    assert energy.joules(1e6, 5e6, None) == pytest.approx(4)


def test_one_counter_starts_anew_while_another_goes_on(system: System) -> None:
    system.rapl(p0=999_000_000, dram=1_000_000)  # µJ of 1 kJ
    watch = energy.Watch()
    system.rapl(p0=2_000_000, dram=1_500_000)
    assert watch.stop()["meters"]["rapl"]["joules"] == pytest.approx(3.0 + 0.5)


def test_one_counter_that_cannot_be_told_spoils_the_sum(system: System, tmp_path: Path) -> None:
    system.rapl(p0=9_000_000, dram=1_000_000)
    (tmp_path / "root/sys/class/powercap/intel-rapl:0/max_energy_range_uj").unlink()
    watch = energy.Watch()
    for index, value in enumerate((1_000_000, 90_000_000)):
        system.lay({f"class/powercap/intel-rapl:{index}/energy_uj": value})
    assert watch.stop()["meters"] == {}


def test_a_power_chip_that_falls_silent(system: System) -> None:
    system.vcgencmd(pmic_read_adc=PI5_PMIC)
    watch = energy.Watch()
    system.vcgencmd(pmic_read_adc="error=1")
    assert watch.stop()["meters"] == {}


STAT = """\
cpu  100 10 20 1000 5 3 2 7 0 0
cpu0 40 4 8 400 2 1 1 3 0 0
cpu1 60 6 12 600 3 2 1 4 0 0
intr 12345
"""


def test_ticks_are_those_of_the_own_cores() -> None:
    assert sensors.own_ticks(STAT, [1])[:8] == [60, 6, 12, 600, 3, 2, 1, 4]
    assert sensors.own_ticks(STAT, [0, 1]) == sensors.own_ticks(STAT, [7])  # unknown: all of them
    assert sensors.own_ticks(STAT, [7])[:3] == [100, 10, 20]
    assert sensors.own_ticks("", [0]) == []


def test_ticks_of_this_machine() -> None:
    before = sensors.counters()
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        pass
    after = sensors.counters()
    assert after["busy_ticks"] > before["busy_ticks"]
    seconds = (after["wall_ns"] - before["wall_ns"]) / 1e9
    ticks = (after["busy_ticks"] - before["busy_ticks"]) / after["ticks_per_second"]
    assert ticks <= seconds * len(sensors.own_cores()) + 0.1


@given(
    st.lists(st.floats(0.01, 2), min_size=1, max_size=20),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(-3, 3),
)
def test_the_trapezoid_rule_is_exact_on_a_line(
    steps: list[float], a: float, b: float, slope: float
) -> None:
    times = [0.0]
    for step in steps:
        times.append(times[-1] + step)
    start, end = sorted((a * times[-1], b * times[-1]))
    watts = [100 + slope * each for each in times]
    exact = 100 * (end - start) + slope * (end**2 - start**2) / 2
    assert energy.integrate(times, watts, start, end) == pytest.approx(exact, abs=1e-6)


def test_the_agent_alone_names_its_meters(system: System) -> None:
    system.vcgencmd(pmic_read_adc=PI5_PMIC)
    system.rapl(p0=1)
    system.core(cpufreq__scaling_governor="schedutil")
    done = subprocess.run(
        [sys.executable, str(agent_archive()), "describe"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = json.loads(done.stdout)
    assert said["meters"] == ["rapl", "pmic"]
    assert said["governor"] == "schedutil"


def test_memory_of_this_process() -> None:
    now, peak, _ = sensors.memory_bytes()
    assert 0 < now <= peak
    pss = sensors.pss_bytes()
    assert pss is None or pss > 0
