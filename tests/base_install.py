"""What a board carries: the base install and perhaps an extra, here and for emulated aarch64.

An environment is a fresh one whose site-packages hold links to just those installed packages that
the project's own lists of dependencies reach. Nothing of the environment that runs the tests is
visible in it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Callable, Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

import edgecompress

ROOT = Path(__file__).parent.parent
NEEDED = ("click", "numpy", "onnxruntime", "tokenizers")
"""What answering imports of the base install (docs/runtime.md)."""
BOARD = "cortex-a72"

Bare = Callable[..., subprocess.CompletedProcess[str]]


def requirements(*extras: str) -> list[Requirement]:
    """Read what the base install and extras ask for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *(project["optional-dependencies"][one] for one in extras)]
    return [Requirement(text) for group in groups for text in group]


def base_distributions(*extras: str) -> dict[str, Distribution]:
    """Find the installed distributions that they reach."""
    waiting = requirements(*extras)
    found: dict[str, Distribution] = {}
    while waiting:
        wanted = waiting.pop()
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        name = canonical(wanted.name)
        if name not in found:
            found[name] = distribution(name)
            waiting += [Requirement(text) for text in found[name].requires or ()]
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def link(packages: Path, distributions: Iterable[Distribution]) -> None:
    """Link what distributions hold into a folder of packages, and copy edgecompress there.

    A copy: it must not find the checkout's models/ and tests/ beside it.
    """
    for found in distributions:
        for top in {Path(file.parts[0]) for file in found.files or () if file.parts[0] != ".."}:
            if top.name != "__pycache__" and not (packages / top).exists():
                (packages / top).symlink_to(found.locate_file(top))  # type: ignore[arg-type]
    source = Path(edgecompress.__file__).parent
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source, packages / "edgecompress", ignore=ignore)


def runner(command: list[str], home: Path, environment: dict[str, str]) -> Bare:
    """Give a function that runs a Python in an empty folder."""
    home.mkdir()

    def run(
        *arguments: str, given: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments],
            input=given,
            capture_output=True,
            text=True,
            check=check,
            cwd=home,
            env={"HOME": str(home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **environment},
        )

    return run


def environment(folder: Path, *extras: str) -> Bare:
    """Make a fresh environment of this machine; give a function that runs its Python."""
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    paths = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    packages = Path(sysconfig.get_path("purelib", "venv", paths))
    link(packages, base_distributions(*extras).values())
    return runner([str(folder / "venv" / "bin" / "python")], folder / "home", {})


def board(folder: Path, *extras: str) -> Bare:
    """Make an environment of an emulated board; give a function that runs its Python.

    Raises
    ------
    TargetError
        When the board or a wheel for it cannot be had.
    """
    from edgecompress.targets.emulated import prepare
    from edgecompress.targets.emulated.root import LIBRARIES

    ready = prepare(BOARD)
    wanted = {*NEEDED, *(canonical(one.name) for one in requirements(*extras))}
    wanted -= {canonical(one.name) for one in requirements()} - set(NEEDED)
    found = base_distributions(*extras)
    others = [found[name] for name in sorted(wanted - set(LIBRARIES))]
    packages = folder / "packages"
    packages.mkdir()
    pure = [one for one in others if "Root-Is-Purelib: true" in (one.read_text("WHEEL") or "")]
    link(packages, pure)
    wheels = [wheel_folder(one) for one in others if one not in pure]
    home = ready.environment()
    places = [str(packages), *map(str, wheels), home.pop("PYTHONPATH")]
    home["PYTHONPATH"] = os.pathsep.join(places)
    home.pop("HOME")
    return runner([*ready.emulate(), *ready.python()], folder / "home", home)


def wheel_folder(found: Distribution) -> Path:
    """Give a distribution in the installed version for aarch64, unpacked in the tests' cache."""
    from edgecompress.targets.emulated import debian

    kept = Path(os.environ["TESTS_CACHE"]) / "aarch64"
    place = kept / f"{canonical(found.name)}-{found.version}"
    if place.is_dir():
        return place
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept) as aside:
        platforms = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
        tags = [word for one in platforms for word in ("--platform", f"{one}_aarch64")]
        options = ["--no-deps", "--only-binary=:all:", "--python-version", "3.11", *tags]
        command = [sys.executable, "-m", "pip", "download", "-q", *options, "-d", aside]
        wanted = f"{found.name}=={found.version}"
        debian.run([*command, wanted], f"pip download of {wanted} for aarch64")
        for wheel in Path(aside).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(Path(aside) / "made")
        try:
            (Path(aside) / "made").rename(place)
        except OSError:  # another process of tests was sooner
            assert place.is_dir()
    return place
