"""The emulated machine's files: a Debian of another architecture with Python and our wheels.

About 175 MB. Only what is needed lies there, because a path that exists below the root shadows the
host's file of the same path; all other paths are the host's, so a job's folder is found as it is.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import zipfile
from pathlib import Path

from edgecompress.errors import TargetError
from edgecompress.installing import pip_install
from edgecompress.targets.emulated import debian
from edgecompress.targets.emulated.cpus import CORES, CPUS, Cpu, cpuinfo

PYTHON = "3.11"  # of Debian 12
PACKAGES = (
    "libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libssl3", "libbz2-1.0",
    "liblzma5", "libuuid1", "libcrypt1", f"libpython{PYTHON}-minimal", f"libpython{PYTHON}-stdlib",
    f"python{PYTHON}-minimal",
)  # fmt: skip
LIBRARIES = ("onnxruntime", "numpy", "tokenizers")
ARCHITECTURES = {"aarch64": "arm64", "x86_64": "amd64"}
"""Debian's name of each machine."""
_LOADERS = {"aarch64": "lib/ld-linux-aarch64.so.1", "x86_64": "lib64/ld-linux-x86-64.so.2"}
_PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")


def library_versions() -> dict[str, str]:
    """Give the host's versions of the libraries that the agent uses.

    Raises
    ------
    TargetError
        When one is not installed here.
    """
    try:
        return {name: importlib.metadata.version(name) for name in LIBRARIES}
    except importlib.metadata.PackageNotFoundError as error:
        raise TargetError(
            f"{error.name} is not installed here, so no version of it can be emulated; run: "
            f"{pip_install(str(error.name))}"
        ) from None


def add_system(folder: Path, apt: debian.Apt) -> dict[str, str]:
    """Unpack Debian's part into ``system/``; give the packages' versions."""
    apt.update()
    files = apt.download(PACKAGES)
    return debian.unpack(files, folder / "system")


def add_wheels(folder: Path, machine: str, downloads: Path) -> None:
    """Fetch the wheels for `machine` in the host's versions and unpack them into ``site/``.

    Raises
    ------
    TargetError
        When pip is missing or finds no such wheel.
    """
    tags = [part for tag in _PLATFORMS for part in ("--platform", f"{tag}_{machine}")]
    wanted = [f"{name}=={version}" for name, version in library_versions().items()]
    options = ["--no-deps", "--only-binary=:all:", "--python-version", PYTHON, *tags]
    debian.run(
        [
            sys.executable,
            "-P",
            "-m",
            "pip",
            "download",
            "-q",
            *options,
            "-d",
            str(downloads),
            *wanted,
        ],
        f"pip download of {', '.join(wanted)} for {machine} and Python {PYTHON}",
    )
    for wheel in sorted(downloads.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "site")


def add_views(folder: Path, machine: str, *, with_system: bool) -> None:
    """Write one folder per processor for QEMU's ``-L``: the system, and its own ``/proc``.

    Parameters
    ----------
    folder : Path
        The root's; views go into ``cpu/<name>/``.
    machine : str
    with_system : bool
        Whether the libraries are those below `folder`; else they are the host's.
    """
    architecture = f"{machine}-linux-gnu"
    links = (
        f"lib/{architecture}",
        f"usr/lib/{architecture}",
        f"usr/lib/python{PYTHON}",
        f"usr/bin/python{PYTHON}",
    )
    for cpu in CPUS.values():
        if cpu.machine != machine:
            continue
        view = view_of(folder, cpu)
        texts = {"proc/cpuinfo": cpuinfo(cpu)}
        for name in ("possible", "present", "online"):
            texts[f"sys/devices/system/cpu/{name}"] = f"0-{CORES - 1}\n"
        if with_system:
            texts["etc/os-release"] = f'PRETTY_NAME="{debian.SYSTEM}"\n'
            for link in links:
                _link(view / link, folder / "system" / link)
            loader = _LOADERS[machine]  # Debian's own link to it is absolute: the host's
            _link(view / loader, folder / f"system/lib/{architecture}" / Path(loader).name)
        for path, text in texts.items():
            (view / path).parent.mkdir(parents=True, exist_ok=True)
            (view / path).write_text(text, encoding="ascii")


def _link(place: Path, to: Path) -> None:
    """Link relatively, so that the whole may be renamed."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(os.path.relpath(to, place.parent))


def view_of(folder: Path, cpu: Cpu) -> Path:
    """Give the folder for QEMU's ``-L`` below the root `folder`."""
    return folder / "cpu" / cpu.name
