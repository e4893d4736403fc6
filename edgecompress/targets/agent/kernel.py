"""Files in which the kernel tells of the machine, below ``/proc`` and ``/sys``.

``EDGECOMPRESS_SYSROOT`` names another root for what lies below ``/sys``, to test the readers.
"""

from __future__ import annotations

import os
from pathlib import Path


def system_root() -> Path:
    """Give the folder that holds ``sys``."""
    return Path(os.environ.get("EDGECOMPRESS_SYSROOT") or "/")


def read_text(path: str | Path) -> str | None:
    """Read a file of the kernel's; None where it is empty, not there, or must not be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def read_number(path: Path) -> float | None:
    """Read a file that holds one whole number."""
    text = read_text(path)
    return float(text) if text is not None and text.lstrip("-").isdigit() else None


def cpuinfo() -> dict[str, str]:
    """First processor's fields of ``/proc/cpuinfo``; empty where there is none."""
    fields: dict[str, str] = {}
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    return fields


def emulated(machine: str, info: dict[str, str]) -> bool:
    """Whether this program runs under an emulator of another processor.

    A user-mode emulator is itself among the files that its program has mapped; it hides that in
    ``/proc/self/maps``, but not under the thread's own name. And where it passes the host's
    ``/proc/cpuinfo`` on, that and the instruction set do not belong together.
    """
    mapped = read_text(f"/proc/self/task/{os.getpid()}/maps") or ""
    arm = machine.startswith(("aarch64", "arm"))
    return "/qemu-" in mapped or (arm and ("vendor_id" in info or "flags" in info))
