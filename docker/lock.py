"""Make the lock files of the images: `make lock`, on Linux, with Python 3.11 and pip 23 or newer.

Each lock holds names, exact versions and SHA-256 of the files for linux/amd64 and linux/arm64, and
no address: where the files come from is pip's configuration, or a folder (`--find-links`). What
may be installed is decided by the hashes alone. torch is locked as pip finds it; to have its CPU
build for both platforms, let pip see PyTorch's index of CPU wheels (PIP_EXTRA_INDEX_URL).

Versions are those of constraints.txt. pip evaluates environment markers for the machine that it
runs on, whatever `--platform` says; so dependencies are resolved for this machine, files are then
chosen for the other one, and the markers are evaluated for it here.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PYTHON = "3.11"
"""Of the base images: wheels of numpy and onnxruntime fit one minor version."""
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
GLIBC = 36
"""Debian 12 has glibc 2.36; newer wheels would not load there."""
SOURCE_ONLY = ("seqeval",)
"""Packages that their authors give out as source only; the builder image makes their wheels."""
ANSWERING = ("image",)
"""Extras that a device needs for some bundles, each of which has a lock beside the runtime's."""
TOOLS = ("hatchling>=1.27", "setuptools", "setuptools-scm", "wheel")
"""What builds this package and those of `SOURCE_ONLY`."""
HEADER = "# Made by `make lock`: exact versions and hashes for {}.\n"


@dataclass(frozen=True, slots=True)
class Locked:
    """A file that pip chose.

    Attributes
    ----------
    name, version : str
        As the file's metadata says.
    sha256 : str
    requires : tuple of str
        Its requirements, markers and all.
    """

    name: str
    version: str
    sha256: str
    requires: tuple[str, ...]


def canonical(name: str) -> str:
    """Give the one spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def tags(machine: str) -> list[str]:
    """Name the platforms whose wheels run on Debian 12."""
    names = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC, 16, -1)]
    return [part for name in (*names, f"manylinux2014_{machine}") for part in ("--platform", name)]


def ask_pip(options: Sequence[str], requirements: Iterable[str]) -> list[Locked]:
    """Let pip choose without installing, and read its report."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text("\n".join(requirements) + "\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
        command += ["-q", "-q", "--report", str(report), "--target", str(Path(folder) / "none")]
        subprocess.run([*command, *options, "-r", str(wanted)], check=True)
        entries = json.loads(report.read_text(encoding="utf-8"))["install"]
    return [_locked(entry) for entry in entries]


def _locked(entry: dict[str, Any]) -> Locked:
    about = entry["metadata"]
    digest = entry["download_info"]["archive_info"]["hashes"]["sha256"]
    requires = tuple(about.get("requires_dist", ()))
    return Locked(canonical(about["name"]), about["version"], digest, requires)


def choose(requirements: Sequence[str], wheels: Path) -> tuple[dict[str, set[str]], list[str]]:
    """Choose every package that `requirements` reach.

    Returns
    -------
    dict of str to set of str
        The hashes of each ``name==version``.
    list of str
        The platforms that they are for: this machine's, and the other one where every package
        has a file for it. torch's CPU build is on neither public index for both.
    """
    here = platform.machine()
    constraints = ["-c", str(ROOT / "constraints.txt")]
    only_wheels = ["--find-links", str(wheels), "--only-binary=:all:"]
    only_wheels += ["--python-version", PYTHON, "--implementation", "cp"]
    chosen = ask_pip([*constraints, *only_wheels, *tags(here)], requirements)
    names = {each.name: f"{each.name}=={each.version}" for each in chosen}
    found = {names[each.name]: {each.sha256} for each in chosen}
    platforms = [f"linux/{MACHINES[here]}"]
    for machine in set(MACHINES) - {here}:
        try:
            there = ask_pip(["--no-deps", *only_wheels, *tags(machine)], sorted(found))
        except subprocess.CalledProcessError:
            continue  # pip has written which package has no file
        check(requirements, there, machine)
        for each in there:
            found[names[each.name]].add(each.sha256)
        platforms.append(f"linux/{MACHINES[machine]}")
    return found, sorted(platforms)


def check(requirements: Sequence[str], chosen: Sequence[Locked], machine: str) -> None:
    """See that nothing is missing on `machine`, whose markers pip did not evaluate.

    Raises
    ------
    SystemExit
        When a package is needed there that is not needed here.
    """
    environment = {
        "platform_machine": machine, "platform_system": "Linux", "sys_platform": "linux",
        "os_name": "posix", "python_version": PYTHON, "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }  # fmt: skip
    by_name = {each.name: each for each in chosen}
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        wanted = waiting.pop()
        name = canonical(wanted.name)
        key = (name, frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        if name not in by_name:
            sys.exit(f"{wanted} is needed on {machine} only; name it in pyproject.toml")
        for requirement in map(Requirement, by_name[name].requires):
            marker = requirement.marker
            if marker is None or any(
                marker.evaluate({**environment, "extra": extra}) for extra in ("", *wanted.extras)
            ):
                waiting.append(requirement)


def source_wheels(folder: Path) -> dict[str, str]:
    """Make wheels of `SOURCE_ONLY`; give the hash of each one's wheel and that of its source."""
    hashes = {}
    for name in SOURCE_ONLY:
        options = ["--no-deps", "-c", str(ROOT / "constraints.txt"), "--no-binary", name]
        command = [sys.executable, "-m", "pip", "wheel", "-q", "-q", "-w", str(folder)]
        subprocess.run([*command, *options, name], check=True)
        [wheel] = ask_pip(["--no-deps", "--no-index", "--find-links", str(folder)], [name])
        [source] = ask_pip(options, [name])
        hashes[wheel.sha256] = source.sha256
    return hashes


def write(name: str, found: dict[str, set[str]], platforms: list[str]) -> None:
    """Write one lock; sorted, so that a new one differs only where something changed."""
    lines = [HEADER.format(" and ".join(platforms))]
    for package, hashes in sorted(found.items()):
        texts = [f"    --hash=sha256:{text}" for text in sorted(hashes)]
        lines.append(" \\\n".join([package, *texts]) + "\n")
    (ROOT / "docker" / f"{name}.lock").write_text("".join(lines), encoding="utf-8")
    print(f"docker/{name}.lock: {len(found)} packages for {', '.join(platforms)}")  # noqa: T201


def locked_in(name: str) -> set[str]:
    """Give the packages of a lock, as ``name==version``."""
    lines = (ROOT / "docker" / f"{name}.lock").read_text(encoding="utf-8").splitlines()
    return {line.split()[0] for line in lines if line and line[0] not in "# "}


def locks() -> dict[str, tuple[str, ...]]:
    """Say which lock holds what: its requirements by its name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base, extras = tuple(project["dependencies"]), project["optional-dependencies"]
    return {
        "runtime": (*base, *extras["serve"]),
        **{f"runtime-{extra}": tuple(extras[extra]) for extra in ANSWERING},
        "builder": (*base, *extras["build"]),
        "tools": TOOLS,
    }


def main() -> None:
    """Make the locks that are named, or all."""
    parser = argparse.ArgumentParser(description="Make the locks that are named, or all.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(locks())}")
    if platform.machine() not in MACHINES or sys.platform != "linux":
        sys.exit("locks are made on Linux, on amd64 or arm64")
    names = parser.parse_args().names or locks()
    with tempfile.TemporaryDirectory() as folder:
        wheels = Path(folder)
        replaced = source_wheels(wheels) if "builder" in names else {}
        for name in names:
            found, platforms = choose(locks()[name], wheels)
            if name.startswith("runtime-"):  # what both would name pip refuses
                runtime = locked_in("runtime")
                found = {each: hashes for each, hashes in found.items() if each not in runtime}
            source = {each: hashes for each, hashes in found.items() if hashes & set(replaced)}
            wheel_only = {each: found[each] for each in found.keys() - source.keys()}
            write(name, wheel_only, platforms)
            if name == "builder":
                sources = {each: {replaced[one] for one in source[each]} for each in source}
                write("source", sources, platforms)


if __name__ == "__main__":
    main()
