"""Energy meters of the machine: read around a loop, never guessed.

- ``rapl``: counters of Intel's and AMD's processors below ``/sys/class/powercap``, which only
  root may read on most systems (https://docs.kernel.org/power/powercap/powercap.html).
- ``pmic``: the Raspberry Pi 5's power management chip, asked eight times a second.

Both count all that the machine does, not only this process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgecompress.targets.agent import firmware
from edgecompress.targets.agent.kernel import read_number, read_text, system_root

PMIC_PERIOD_S = 0.125


def rapl_domains() -> dict[str, Path]:
    """Find the counters that can be read and do not contain one another.

    Packages, and memory where it is counted apart. A package holds its cores; ``psys`` holds the
    packages, and counts only where it is alone.
    """
    found: dict[str, Path] = {}
    for folder in sorted((system_root() / "sys/class/powercap").glob("intel-rapl:*")):
        name = read_text(folder / "name") or folder.name
        readable = read_number(folder / "energy_uj") is not None
        if readable and name.startswith(("package", "dram", "psys")):
            found[name if name not in found else f"{name} ({folder.name})"] = folder
    packages = {name: path for name, path in found.items() if not name.startswith("psys")}
    return packages or found


def meters() -> list[str]:
    """Name the energy meters that can be read here."""
    found = ["rapl"] if rapl_domains() else []
    return found + (["pmic"] if firmware.pmic_watts() is not None else [])


def joules(before_uj: float, after_uj: float, range_uj: float | None) -> float | None:
    """Energy between two readings of a counter that starts anew at its range.

    None where it fell and its range is not known, or is too small to tell what it counted.
    """
    counted = after_uj - before_uj
    if counted < 0:
        counted += range_uj or 0.0
    return counted / 1e6 if counted >= 0 else None


def integrate(
    times_s: Sequence[float], watts: Sequence[float], start_s: float, end_s: float
) -> float:
    """Energy in joules between two times, by the trapezoid rule; watts between are interpolated.

    Parameters
    ----------
    times_s : sequence of float
        Rising; the first not after `start_s`, the last not before `end_s`.
    watts : sequence of float
        One per time.
    start_s, end_s : float
    """
    total = 0.0
    for index in range(len(times_s) - 1):
        first, last = times_s[index], times_s[index + 1]
        low, high = max(first, start_s), min(last, end_s)
        if high <= low or last <= first:
            continue
        slope = (watts[index + 1] - watts[index]) / (last - first)
        middle = watts[index] + slope * ((low + high) / 2 - first)
        total += middle * (high - low)
    return total


class Watch:
    """Reads the machine's meters from now on, until `stop`."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._domains = rapl_domains()
        if self._sample():
            self._thread = threading.Thread(target=self._follow, daemon=True)
            self._thread.start()
        self._before = self._counted()
        self.start_s, self._start = time.time(), time.perf_counter()

    def _counted(self) -> dict[str, float | None]:
        return {name: read_number(path / "energy_uj") for name, path in self._domains.items()}

    def _sample(self) -> bool:
        begun = time.perf_counter()
        watts = firmware.pmic_watts()
        if watts is not None:
            self._samples.append(((begun + time.perf_counter()) / 2, watts))
        return watts is not None

    def _follow(self) -> None:
        while not self._done.wait(PMIC_PERIOD_S):
            self._sample()

    def stop(self) -> dict[str, Any]:
        """Give ``start_s``, ``end_s`` (epoch) and ``meters``: name to ``joules`` and what counts.

        A meter that stopped answering on the way is left out.
        """
        end, end_s = time.perf_counter(), time.time()
        after = self._counted()
        found: dict[str, Any] = {}
        ranges = {
            name: read_number(path / "max_energy_range_uj") for name, path in self._domains.items()
        }
        pairs = {name: (value, after[name]) for name, value in self._before.items()}
        if pairs and not any(None in pair for pair in pairs.values()):
            parts = [
                joules(float(first or 0), float(last or 0), ranges[name])
                for name, (first, last) in pairs.items()
            ]
            known = [part for part in parts if part is not None]
            # Some virtual machines show counters that stand still.
            if len(known) == len(parts) and sum(known) > 0:
                found["rapl"] = {"joules": sum(known), "domains": sorted(pairs)}
        if self._thread is not None:
            self._done.set()
            self._thread.join()
            if self._sample():
                times, watts = zip(*self._samples)  # noqa: B905 - Python 3.9 has no `strict`
                value = integrate(times, watts, self._start, end)
                found["pmic"] = {"joules": value, "samples": len(times)}
        return {"start_s": self.start_s, "end_s": end_s, "meters": found}
