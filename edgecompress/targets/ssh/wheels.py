"""Wheels for a board, downloaded on this machine: a board needs no network of its own."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from edgecompress.errors import TargetError
from edgecompress.targets.machine import cache_folder
from edgecompress.values import directory_digests, json_digest
from edgecompress.writing import put, writing

LIBRARIES = ("onnxruntime", "numpy", "tokenizers")
"""What the agent uses; none of their own dependencies is needed to answer."""
MACHINES = {"aarch64": "aarch64", "arm64": "aarch64", "x86_64": "x86_64", "amd64": "x86_64"}
"""Machines that the libraries have wheels for."""
OLDEST_GLIBC = (2, 28)
"""The wheels of onnxruntime are built for manylinux_2_28."""
DIGESTS = "digests.json"
_OLDEST_TAG = 17  # manylinux2014, the oldest that the libraries still use


@dataclass(frozen=True, slots=True)
class Platform:
    """What decides which wheels fit.

    Attributes
    ----------
    machine : str
        ``aarch64`` or ``x86_64``.
    glibc : tuple of int
        Such as (2, 36).
    python : tuple of int
        Such as (3, 11).
    """

    machine: str
    glibc: tuple[int, int]
    python: tuple[int, int]

    def __str__(self) -> str:
        """In words."""
        return (
            f"Python {self.python[0]}.{self.python[1]} on {self.machine} with "
            f"glibc {self.glibc[0]}.{self.glibc[1]}"
        )

    @property
    def tags(self) -> tuple[str, ...]:
        """The platform tags that fit, newest first."""
        newest = self.glibc[1]
        found = [f"manylinux_2_{n}_{self.machine}" for n in range(newest, _OLDEST_TAG - 1, -1)]
        return (*found, f"manylinux2014_{self.machine}")


def read_glibc(libc: str | None) -> tuple[int, int] | None:
    """Read ``glibc 2.36``; None where it is another C library."""
    found = re.search(r"glibc (\d+)\.(\d+)", libc or "")
    return (int(found[1]), int(found[2])) if found else None


def wanted_versions() -> dict[str, str]:
    """Give the versions of the libraries on this machine, which a board gets too."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def wanted_python(version: tuple[int, ...]) -> str | None:
    """Say what the libraries' wheels need instead of this Python; None when it is good.

    Only a lower bound is known from what is installed here; pip knows the rest.
    """
    for name in LIBRARIES:
        needs = importlib.metadata.metadata(name)["Requires-Python"] or ""
        found = re.search(r">=\s*(\d+)\.(\d+)", needs)
        if found and version[:2] < (int(found[1]), int(found[2])):
            return f"{name} {importlib.metadata.version(name)} needs Python {needs}"
    return None


def environment_key(platform: Platform, versions: dict[str, str], base: str = "") -> str:
    """Digest of what makes one environment differ from another; `base` is its interpreter."""
    return json_digest({"platform": str(platform), "versions": versions, "base": base})[:16]


def download(platform: Platform, name: str) -> tuple[Path, tuple[Path, ...]]:
    """Have the wheels for a platform on this machine; downloaded once.

    pip runs with the person's own settings: index, proxy, certificates.

    Parameters
    ----------
    platform : Platform
    name : str
        The target's, for messages.

    Returns
    -------
    pip : Path
        pip's own wheel, which runs as it is.
    wheels : tuple of Path

    Raises
    ------
    TargetError
        When there is no such wheel, or no way to get it.
    """
    versions = wanted_versions()
    folder = cache_folder() / "wheels" / environment_key(platform, versions)
    if not _whole(folder):
        with writing(folder, "XDG_CACHE_HOME") as aside:
            place = aside / "wheels"
            fits = [f"--platform={tag}" for tag in platform.tags]
            major, minor = platform.python
            abis = [f"--abi={abi}" for abi in (f"cp{major}{minor}", "abi3", "none")]
            python = f"--python-version={major}.{minor}"
            pins = [f"{library}=={version}" for library, version in versions.items()]
            _pip(name, str(platform), place, [*fits, *abis, "--implementation=cp", python, *pins])
            _pip(name, "any system", place, [f"pip=={_pip_version(name)}"])
            digests = json.dumps(directory_digests(place), indent=1)
            (place / DIGESTS).write_text(digests, encoding="utf-8")
            put(place, folder)
    wheels = sorted(folder.glob("*.whl"))
    (pip,) = (wheel for wheel in wheels if wheel.name.startswith("pip-"))
    return pip, tuple(wheel for wheel in wheels if wheel != pip)


def _whole(folder: Path) -> bool:
    """Whether the wheels are those that were downloaded: they will be installed on a board."""
    try:
        expected = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    found = directory_digests(folder)
    del found[DIGESTS]
    return bool(found == expected)


def _pip_version(name: str) -> str:
    try:
        return importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError:
        raise TargetError(
            f"{name}: this machine's Python has no pip to download the board's wheels with; "
            f"run: {sys.executable} -m ensurepip"
        ) from None


def _pip(name: str, what: str, place: Path, arguments: list[str]) -> None:
    _pip_version(name)
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", f"--dest={place}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        said = (lines or done.stderr.strip().splitlines() or ["no word"])[-1]
        raise TargetError(
            f"{name}: the wheels for {what} cannot be had ({said.removeprefix('ERROR:').strip()}); "
            "they are downloaded by pip on this machine, so check its network and settings"
        )
