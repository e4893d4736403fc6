"""What the machine says of itself around a timing loop: raw readings, None where there are none."""

from __future__ import annotations

import os
import platform
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any

from edgecompress.targets.agent import firmware
from edgecompress.targets.agent.kernel import (
    cpuinfo,
    emulated,
    read_number,
    read_text,
    system_root,
)

_PROCESSOR = re.compile(r"cpu|soc|x86_pkg|coretemp|k10temp", re.IGNORECASE)
_COOLED = ("passive", "hot")  # trip points at which the kernel slows the machine down


def _numbers(paths: list[Path]) -> list[float]:
    return [found for path in paths if (found := read_number(path)) is not None]


def own_cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _cpufreq(name: str) -> list[Path]:
    cpus = system_root() / "sys/devices/system/cpu"
    return [cpus / f"cpu{core}/cpufreq/{name}" for core in own_cores()]


def governor() -> str | None:
    """Name the frequency governor of the first core that this process may use."""
    return read_text(_cpufreq("scaling_governor")[0])


def frequency_mhz() -> float | None:
    """Clock of the fastest core that this process may use: the idle ones may well rest."""
    found = _numbers(_cpufreq("scaling_cur_freq"))
    return max(found) / 1e3 if found else None


def base_frequency_mhz() -> float | None:
    """Clock that the processor keeps as long as it is cool; a lower limit set by a person counts.

    Intel's driver and the firmware tables of others (CPPC) name it; ARM cores have no boost, so
    that it is the highest there.
    """
    folder = _cpufreq("")[0]
    found = _numbers([folder / "base_frequency"])
    nominal = _numbers([folder.parent / "acpi_cppc/nominal_freq"])  # this one in MHz
    found += [value * 1e3 for value in nominal]
    if not found and platform.machine().startswith(("aarch64", "arm")):
        found = _numbers([folder / "cpuinfo_max_freq"])
    if not found:
        return None
    return min([found[0], *_numbers([folder / "scaling_max_freq"])]) / 1e3


def zones() -> list[dict[str, Any]]:
    """Thermal zones: ``type``, ``temperature_c`` and, of those that slow it down, ``trip_c``."""
    found = []
    for zone in sorted((system_root() / "sys/class/thermal").glob("thermal_zone*")):
        temperature = read_number(zone / "temp")
        if temperature is None:
            continue
        trips = []
        for kind in zone.glob("trip_point_*_type"):
            limit = read_number(kind.with_name(kind.name.replace("_type", "_temp")))
            if limit is not None and limit > 0 and read_text(kind) in _COOLED:
                trips.append(limit / 1e3)
        found.append(
            {
                "type": read_text(zone / "type") or zone.name,
                "temperature_c": temperature / 1e3,
                "trip_c": min(trips, default=None),
            }
        )
    return found


def temperature_c(found: list[dict[str, Any]]) -> float | None:
    """Temperature of the processor: the hottest of its zones, else of all, else its own sensor."""
    own = [zone["temperature_c"] for zone in found if _PROCESSOR.search(zone["type"])]
    own = own or [zone["temperature_c"] for zone in found]
    for chip in sorted((system_root() / "sys/class/hwmon").glob("hwmon*")) if not own else ():
        if _PROCESSOR.search(read_text(chip / "name") or ""):
            own += [value / 1e3 for value in _numbers(sorted(chip.glob("temp*_input")))]
    return max(own, default=None)


def own_ticks(stat: str, cores: list[int]) -> list[int]:
    """Sum the columns of ``/proc/stat`` over `cores`: what others do elsewhere disturbs nobody.

    Where the lines of these cores are missing, as in some containers, those of the whole machine.

    Parameters
    ----------
    stat : str
        The file's text.
    cores : list of int

    Returns
    -------
    list of int
        Ticks spent as user, nice, system, idle, iowait, irq, softirq, steal …; empty where the
        file says nothing.
    """
    found = {
        words[0]: [int(value) for value in words[1:]]
        for line in stat.split("\n")
        if (words := line.split()) and words[0].startswith("cpu")
    }
    own = [found[f"cpu{core}"] for core in cores if f"cpu{core}" in found]
    if len(own) < len(cores):
        return found.get("cpu", [])
    return [sum(column) for column in zip(*own)]  # noqa: B905 - Python 3.9 has no `strict`


def counters() -> dict[str, Any]:
    """Read what is counted: cheap, so that it can stand next to the loop's first and last run."""
    ticks = own_ticks(read_text("/proc/stat") or "", own_cores())
    return {
        # The first eight fields: user nice system idle iowait irq softirq steal.
        "busy_ticks": sum(ticks[:3]) + sum(ticks[5:7]) if len(ticks) >= 8 else None,
        "steal_ticks": ticks[7] if len(ticks) >= 8 else None,
        "ticks_per_second": os.sysconf("SC_CLK_TCK"),
        "process_ns": time.process_time_ns(),
        "wall_ns": time.perf_counter_ns(),
        "involuntary_switches": resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw,
    }


def surroundings() -> dict[str, Any]:
    """Load, frequency, governor, temperature and throttling; may take a while to be read."""
    root, thermal = system_root(), zones()
    cpus = root / "sys/devices/system/cpu"
    throttles = _numbers(sorted(cpus.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")))
    node = root / "sys/devices/platform/soc/soc:firmware/get_throttled"
    return {
        "cores": len(own_cores()),
        "load_average": list(os.getloadavg()),
        "frequency_mhz": frequency_mhz(),
        "base_frequency_mhz": base_frequency_mhz(),
        "governor": governor(),
        "zones": thermal,
        "temperature_c": temperature_c(thermal),
        "throttle_count": sum(throttles) if throttles else None,
        # Raspberry Pi's firmware: bits 0-3 are under-voltage, capped, throttled, soft limit; bits
        # 16-19 the same since it was switched on.
        "pi_throttled": read_text(node) or firmware.throttled(),
        "emulated": emulated(platform.machine(), cpuinfo()),
    }


def machine_state() -> dict[str, Any]:
    """Give `surroundings` and, last, `counters`."""
    return {**surroundings(), **counters()}


def memory_bytes() -> tuple[int, int, str]:
    """Resident memory now, its peak, and where both were read.

    ``VmHWM`` is preferred: Linux lets ``ru_maxrss`` of a new process start at its parent's size.
    """
    text = read_text("/proc/self/status") or ""
    fields = dict(line.split(":", 1) for line in text.split("\n") if ":" in line)
    if "VmHWM" in fields and "VmRSS" in fields:
        now, peak = (int(fields[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
        return now, peak, "VmHWM"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024
    return peak, peak, "ru_maxrss"


def pss_bytes() -> int | None:
    """Proportional memory now: pages that several processes share count in parts."""
    for line in (read_text("/proc/self/smaps_rollup") or "").split("\n"):
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return None
