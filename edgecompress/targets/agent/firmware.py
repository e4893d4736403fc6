"""What a Raspberry Pi's firmware says through its program ``vcgencmd``.

Source: https://www.raspberrypi.com/documentation/computers/os.html#vcgencmd
"""

from __future__ import annotations

import re
import shutil
import subprocess

_RAIL = re.compile(r"^\s*(\S+)_([AV])\s+(?:current|volt)\(\d+\)=([0-9.]+)[AV]\s*$", re.MULTILINE)


def ask(*arguments: str) -> str | None:
    """Give what ``vcgencmd`` prints; None where there is none, or it refuses."""
    program = shutil.which("vcgencmd")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,  # the host's watchdog is no input of another program
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def throttled() -> str | None:
    """Bits of ``get_throttled`` in hexadecimal, such as ``0x50005``."""
    found = re.search(r"throttled=(0x[0-9a-fA-F]+)", ask("get_throttled") or "")
    return found[1] if found else None


def pmic_watts() -> float | None:
    """Power that the Pi 5's power management chip gives out now: volts × amperes of its rails.

    None on boards without one.
    """
    rails: dict[str, dict[str, float]] = {}
    for name, kind, value in _RAIL.findall(ask("pmic_read_adc") or ""):
        rails.setdefault(name, {})[kind] = float(value)
    pairs = [found["A"] * found["V"] for found in rails.values() if len(found) == 2]
    return sum(pairs) if pairs else None
