"""What a machine is, with nothing but the standard library: a bare board can answer too.

Nothing in it names a person or a place: no host name, no user, no path.
"""

from __future__ import annotations

import os
import platform
import struct
import sys
from importlib import metadata
from typing import Any

from edgecompress.targets.agent import energy, sensors
from edgecompress.targets.agent.kernel import cpuinfo, emulated, read_text

LIBRARIES = ("onnxruntime", "numpy", "tokenizers")
"""What the agent can make use of."""

ARM_ISA = {
    "asimddp": "dotprod", "i8mm": "i8mm", "bf16": "bf16", "asimdhp": "fp16", "sve": "sve",
}  # fmt: skip
X86_ISA = {
    "avx2": "avx2", "avx512f": "avx512", "avx512_vnni": "vnni", "avx_vnni": "avx_vnni",
    "amx_int8": "amx_int8", "avx512_bf16": "avx512_bf16",
}  # fmt: skip
"""Kernel's names of what int8 and half precision kernels are chosen by, and ours."""


ARM_PARTS = {
    "0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55", "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72", "0xd09": "Cortex-A73", "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1", "0xd40": "Neoverse-V1", "0xd41": "Cortex-A78", "0xd49": "Neoverse-N2",
}  # fmt: skip
"""Arm's cores by the ``CPU part`` of ``/proc/cpuinfo`` (Arm, Main ID Register of each core)."""


def _cpu(info: dict[str, str]) -> str:
    arm = ARM_PARTS.get(info.get("CPU part", "")) if info.get("CPU implementer") == "0x41" else None
    return info.get("model name") or arm or platform.processor() or "unknown"


def _system() -> str:
    for line in (read_text("/etc/os-release") or "").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip("\"'")
    return platform.platform(terse=True)


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def describe() -> dict[str, Any]:
    """Describe this machine: processor, features, memory, system, Python, libraries, meters."""
    info = cpuinfo()
    machine = platform.machine()
    flags = (info.get("flags") or info.get("Features") or "").split()
    known = ARM_ISA if machine.startswith(("aarch64", "arm")) else X86_ISA
    memory = None
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    libc = " ".join(part for part in platform.libc_ver() if part)
    return {
        "machine": machine,
        "board": read_text("/proc/device-tree/model"),  # set on ARM boards, such as a Raspberry Pi
        "cpu": _cpu(info),
        "cores": len(sensors.own_cores()),
        "flags": sorted(flags),
        "isa": [name for flag, name in known.items() if flag in flags],
        "memory_bytes": memory,
        "system": _system(),
        "kernel": platform.release(),
        "libc": libc or None,
        "bits": struct.calcsize("P") * 8,
        "python": sys.version.split()[0],
        "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
        "governor": sensors.governor(),
        "meters": energy.meters(),
        "emulated": emulated(machine, info),
    }
