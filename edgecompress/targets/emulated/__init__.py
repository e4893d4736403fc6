"""Processors that this host emulates: answers and instruction counts, never times or memory.

`setup` prepares one (`qemu`, `debian`, `root`, `plugin` are what that takes), `cpus` lists them,
and `Emulated` is the target.
"""

from __future__ import annotations

from edgecompress.targets.emulated.cpus import CPUS, find_cpu
from edgecompress.targets.emulated.setup import clean, prepare, prepared
from edgecompress.targets.emulated.target import Emulated

__all__ = ["CPUS", "Emulated", "clean", "find_cpu", "prepare", "prepared"]
