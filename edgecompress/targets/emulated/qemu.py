"""The emulator: the host's, or Debian's unpacked where the host has none that takes plugins."""

from __future__ import annotations

import functools
import re
import shutil
from pathlib import Path

from edgecompress.errors import TargetError
from edgecompress.targets.emulated import debian

Command = tuple[str, ...]


def installed(machine: str) -> tuple[str | None, bool]:
    """Find the host's emulator of `machine`, and whether it can load plugins.

    A static one cannot; Debian has the dynamic one as qemu-user in release 12.
    """
    first = None
    for name in (f"qemu-{machine}", f"qemu-{machine}-static"):
        if (found := shutil.which(name)) is not None:
            if b"/ld-" in Path(found).read_bytes()[:4096]:  # asks for a loader: it is dynamic
                return found, True
            first = first or found
    return first, False


@functools.cache
def version_of(command: Command) -> str:
    """Ask an emulator for its version.

    Raises
    ------
    TargetError
        When it does not run.
    """
    said = debian.run([*command, "--version"], Path(command[-1]).name)
    found = re.search(r"version (.+)", said)
    return found.group(1).strip() if found else said.strip()


def fetch(architecture: str, folder: Path, workspace: Path) -> None:
    """Unpack Debian's emulators with all their libraries into `folder`.

    Parameters
    ----------
    architecture : str
        Debian's name of the host's.
    folder, workspace : Path

    Raises
    ------
    TargetError
        When they cannot be had.
    """
    apt = debian.Apt(workspace, architecture)
    apt.update()
    debian.unpack(apt.download(["qemu-user"], dependencies=True), folder)


def fetched(folder: Path, machine: str) -> Command:
    """Give the command of the emulator that `fetch` unpacked.

    It is started by its own loader, so that it does not depend on the host's libraries.

    Raises
    ------
    TargetError
        When it is not complete.
    """
    loaders = sorted((folder / "lib").glob("*-linux-gnu/ld-linux*.so.*"))
    binary = folder / "usr" / "bin" / f"qemu-{machine}"
    if not loaders or not binary.is_file():
        raise TargetError("Debian's qemu-user is not complete; run: edgecompress targets clean")
    libraries = [
        str(path)
        for base in ("lib", "usr/lib")
        for path in sorted((folder / base).glob("*-linux-gnu"))
    ]
    return (str(loaders[0]), "--library-path", ":".join(libraries), str(binary))
