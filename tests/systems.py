"""A system of a test's own: what the kernel and the firmware say, laid out in folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PI5_PMIC = """\
 3V7_WL_SW_A current(0)=0.10000000A
   3V3_SYS_A current(1)=0.50000000A
  VDD_CORE_A current(7)=2.00000000A
 3V7_WL_SW_V volt(8)=3.70000000V
   3V3_SYS_V volt(9)=3.30000000V
  VDD_CORE_V volt(15)=0.90000000V
     EXT5V_V volt(24)=5.15000000V
"""
PI5_WATTS = 0.1 * 3.7 + 0.5 * 3.3 + 2.0 * 0.9
_DOMAINS = {
    "p0": "package-0", "p1": "package-1", "core": "core", "dram": "dram", "psys": "psys",
}  # fmt: skip


class System:
    """Files that the agent's readers take for the system's; inherited by processes."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self._programs = folder / "root", folder / "bin"
        self.root.mkdir()
        self._programs.mkdir()
        monkeypatch.setenv("EDGECOMPRESS_SYSROOT", str(self.root))
        monkeypatch.setenv("PATH", f"{self._programs}:{os.environ['PATH']}")

    def lay(self, files: dict[str, object]) -> None:
        """Write files below ``/sys``."""
        for name, content in files.items():
            path = self.root / "sys" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")

    def core(self, **fields: object) -> None:
        """Write files of every core that this process may use; ``a__b`` is ``a/b``."""
        for number in sorted(os.sched_getaffinity(0)):
            place = f"devices/system/cpu/cpu{number}"
            self.lay({f"{place}/{name.replace('__', '/')}": fields[name] for name in fields})

    def rapl(self, **counters: int) -> None:
        """Write energy counters, in µJ."""
        for index, (key, value) in enumerate(counters.items()):
            folder = f"class/powercap/intel-rapl:{index}"
            self.lay({f"{folder}/name": _DOMAINS[key], f"{folder}/energy_uj": value})
            self.lay({f"{folder}/max_energy_range_uj": 1_000_000_000})

    def vcgencmd(self, **answers: str) -> None:
        """Install a program that answers each question with a text."""
        for question, answer in answers.items():
            (self._programs / f"{question}.txt").write_text(answer)
        program = self._programs / "vcgencmd"
        program.write_text(f'#!/bin/sh\nexec cat "{self._programs}/$1.txt"\n')
        program.chmod(0o755)
