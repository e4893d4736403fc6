"""What the machine says of itself around a timing loop: raw readings, None where there are none."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path
from typing import Any


def _read(path: str | Path) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None


def _numbers(pattern: str) -> list[float]:
    found = []
    for path in sorted(Path("/sys").glob(pattern)):
        text = _read(path)
        if text is not None and text.lstrip("-").isdigit():
            found.append(float(text))
    return found


def governor() -> str | None:
    """Name the first core's frequency governor."""
    return _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def meters() -> list[str]:
    """Name the energy meters that can be read here."""
    return []


def machine_state() -> dict[str, Any]:
    """Load, frequency, governor, temperature and throttling, as far as they can be read."""
    cpus = "devices/system/cpu/cpu[0-9]*"
    frequencies = _numbers(f"{cpus}/cpufreq/scaling_cur_freq")
    temperatures = _numbers("class/thermal/thermal_zone*/temp")
    throttles = _numbers(f"{cpus}/thermal_throttle/core_throttle_count")
    ticks = [int(value) for value in (_read("/proc/stat") or "cpu").split("\n")[0].split()[1:]]
    usage = resource.getrusage(resource.RUSAGE_SELF)
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cores": len(affinity(0)) if affinity else os.cpu_count() or 1,
        "load_average": list(os.getloadavg()),
        "frequency_mhz": sum(frequencies) / len(frequencies) / 1e3 if frequencies else None,
        "governor": governor(),
        "temperature_c": max(temperatures) / 1e3 if temperatures else None,
        "throttle_count": sum(throttles) if throttles else None,
        # Raspberry Pi's firmware: bits 0-3 are under-voltage, capped, throttled, soft limit.
        "pi_throttled": _read("/sys/devices/platform/soc/soc:firmware/get_throttled"),
        # The first eight fields: user nice system idle iowait irq softirq steal.
        "busy_ticks": sum(ticks[:3]) + sum(ticks[5:7]) if len(ticks) >= 8 else None,
        "steal_ticks": ticks[7] if len(ticks) >= 8 else None,
        "ticks_per_second": os.sysconf("SC_CLK_TCK"),
        "process_ns": time.process_time_ns(),
        "wall_ns": time.perf_counter_ns(),
        "involuntary_switches": usage.ru_nivcsw,
    }


def memory_bytes() -> tuple[int, int, str]:
    """Resident memory now, its peak, and where both were read.

    ``VmHWM`` is preferred: Linux lets ``ru_maxrss`` of a new process start at its parent's size.
    """
    fields = dict(
        line.split(":", 1) for line in (_read("/proc/self/status") or "").split("\n") if ":" in line
    )
    if "VmHWM" in fields and "VmRSS" in fields:
        now, peak = (int(fields[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
        return now, peak, "VmHWM"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024
    return peak, peak, "ru_maxrss"
