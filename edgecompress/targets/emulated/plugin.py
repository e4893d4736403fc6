"""The plugin that counts instructions: built with the host's compiler, tried before it is used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgecompress.errors import TargetError
from edgecompress.targets.emulated import debian

SOURCE = Path(__file__).with_name("plugin.c")
FILE = "plugin.so"
COUNTS = "EDGECOMPRESS_COUNTS"
"""Environment variable with the file that the plugin appends its counts to."""
APIS = (1, 2, 3, 4, 5, 6)
"""Versions of QEMU's plugin interface to try: QEMU 7.2 has 1, QEMU 9.0 has 2, QEMU 10.0 has 4."""
_PROBE = "import os\nfor n in 1, 2:\n try: os.write(9999, b'x' * n)\n except OSError: pass"


def compiler() -> str | None:
    """Find the host's C compiler."""
    names = ("cc", "gcc", "clang")
    return next((found for name in names if (found := shutil.which(name))), None)


def option(plugin: Path) -> tuple[str, str]:
    """Give the emulator's option that loads `plugin`."""
    return "-plugin", "file=" + str(plugin).replace(",", ",,")


def build(emulate: Sequence[str], python: Sequence[str], folder: Path) -> str | None:
    """Build ``plugin.so`` for the interface that an emulator has, and see that it counts.

    Parameters
    ----------
    emulate : sequence of str
        The emulator's command with its options.
    python : sequence of str
        A Python that it can run.
    folder : Path

    Returns
    -------
    str or None
        Why there is no plugin, and what to do; None when there is.
    """
    cc = compiler()
    if cc is None:
        return "there is no C compiler; install the package gcc"
    file = folder / FILE
    options = ["-O2", "-fPIC", "-shared", "-nostdlib", "-ffreestanding"]
    problem = ""
    for api in APIS:
        command = [cc, *options, f"-DQEMU_API={api}", "-o", str(file), str(SOURCE)]
        try:
            debian.run(command, "building the plugin")
        except TargetError as error:
            return f"{error}; install the packages gcc and binutils"
        problem = _try([*emulate, *option(file)], python, folder)
        if not problem:
            return None
    file.unlink()
    return f"this QEMU does not take the plugin ({problem}); install one that is linked dynamically"


def _try(emulate: Sequence[str], python: Sequence[str], folder: Path) -> str:
    """Count between two markers; give an empty text, or what went wrong."""
    counts = folder / "probe"
    counts.write_bytes(b"")
    done = subprocess.run(
        [*emulate, *python, "-S", "-s", "-c", _PROBE],
        env={**os.environ, COUNTS: str(counts)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    text = counts.read_text(encoding="utf-8")
    counts.unlink()
    try:
        found = json.loads(text)
    except ValueError:
        lines = done.stderr.strip().splitlines()
        return lines[-1][:200] if lines else f"exit status {done.returncode}"
    return "" if found["all"] and found["load_store"] else "it counts nothing"
