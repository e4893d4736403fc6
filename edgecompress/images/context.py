"""The build context of a bundle's container image, written whole.

::

    Dockerfile           docker/runtime.Dockerfile, with the base that was asked for
    requirements.lock    docker/runtime.lock, that of the extra that the bundle's task needs, and
                         this package's own wheel: versions and hashes
    pip.conf             where wheels lie; whether an index may be asked
    wheels/              this package's wheel, and all others where the build is to need no network
    bundle/              the bundle's core; its evidence stays outside and cannot change the image

The same bundle, lock and version give the same context, byte by byte, on any machine. What builds
it is in `edgecompress.images.engines`.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edgecompress.bundle import verify_bundle
from edgecompress.bundle.digests import CORE_LIST, CORE_SIGNATURE
from edgecompress.errors import ImageError
from edgecompress.images.wheel import EPOCH, write_own_wheel
from edgecompress.resources import resource_folder
from edgecompress.tasks import needed_extra
from edgecompress.values import file_digest
from edgecompress.writing import put, temporary, writing

PLATFORMS = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
"""What there are wheels for, and the machine's name in a wheel's file name."""
PYTHON = "3.11"
"""The base's minor version, which the lock's wheels are for."""
CONTEXT_FILE = "Dockerfile"
_LOCK, _WHEELS = "requirements.lock", "wheels"
_NEWEST_GLIBC, _OLDEST_GLIBC = 36, 17  # Debian 12's, and manylinux2014's


def host_platform() -> str:
    """Give the platform of this machine, ``linux/amd64`` or ``linux/arm64``."""
    machine = {"arm64": "aarch64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine())
    for name, known in PLATFORMS.items():
        if known == machine:
            return name
    raise ImageError(f"there are no wheels for {machine}; choose --platform linux/amd64 or arm64")


def default_base() -> str:
    """Give the base that the Dockerfile names; `make pin` adds a digest there."""
    text = (resource_folder("docker") / "runtime.Dockerfile").read_text(encoding="utf-8")
    found = re.search(r"^ARG BASE=(\S+)$", text, re.MULTILINE)
    if found is None:
        raise ImageError("docker/runtime.Dockerfile names no base; give one with --base")
    return found[1]


def read_lock(text: str) -> dict[str, frozenset[str]]:
    """Read a lock: the allowed SHA-256 of each ``name==version``."""
    joined = re.sub(r"\\\n", " ", text)
    entries = (line.split() for line in joined.splitlines() if line and line[0] != "#")
    return {
        name: frozenset(option.removeprefix("--hash=sha256:") for option in hashes)
        for name, *hashes in entries
    }


def read_context_lock(context: Path) -> dict[str, frozenset[str]]:
    """Read the lock of a build context: that of the packages, and this package's own wheel."""
    return read_lock((context / _LOCK).read_text(encoding="utf-8"))


def locked_packages(task: str | None) -> str:
    """Give the text of the lock of what answers a task: the runtime, and the extra that it needs.

    Raises
    ------
    ImageError
        When no lock has that extra.
    """
    folder, extra = resource_folder("docker"), needed_extra(task)
    names = ["runtime.lock", *([f"runtime-{extra}.lock"] if extra else [])]
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ImageError(
            f"a bundle of the task {task} needs the extra {extra}, of which no image can be made "
            f"yet: docker/{missing[0]} is missing"
        )
    return "".join((folder / name).read_text(encoding="utf-8") for name in names)


def wheels_for(machine: str, lock: dict[str, frozenset[str]], folder: Path) -> dict[str, Path]:
    """Find the files in `folder` that the lock allows and that fit `machine`.

    Returns
    -------
    dict of str to Path
        The wheel by ``name==version``; packages without one are left out.
    """
    found = {}
    by_hash = {text: name for name, hashes in lock.items() for text in hashes}
    for wheel in sorted(folder.glob("*.whl")):
        tag = wheel.stem.rpartition("-")[2]
        if tag == "any" or tag.endswith(f"_{machine}"):
            name = by_hash.get(file_digest(wheel))
            if name is not None:
                found[name] = wheel
    return found


def download_wheels(folder: Path, platforms: Sequence[str], task: str | None = None) -> None:
    """Fetch all that a lock names for `platforms`, with this Python's pip and its settings.

    Parameters
    ----------
    folder : Path
    platforms : sequence of str
    task : str, optional
        What the bundle answers; it may need an extra.

    Raises
    ------
    ImageError
        When pip cannot have a file, or one has another hash.
    """
    with temporary() as aside:
        lock = aside / _LOCK
        lock.write_text(locked_packages(task), encoding="utf-8")
        for name in platforms:
            _download(folder, name, lock)


def _download(folder: Path, name: str, lock: Path) -> None:
    machine = PLATFORMS[name]
    glibc = range(_NEWEST_GLIBC, _OLDEST_GLIBC - 1, -1)
    tags = [*(f"manylinux_2_{minor}_{machine}" for minor in glibc), f"manylinux2014_{machine}"]
    options = [part for tag in tags for part in ("--platform", tag)]
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--require-hashes", "--only-binary=:all:", "--python-version", PYTHON, *options]
    command += ["--dest", str(folder), "-r", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise ImageError(
            f"the wheels for {name} cannot be fetched: {(lines or ['pip failed'])[0]}; give a "
            "folder that holds them with --wheels"
        )


def write_context(
    bundle: Path,
    directory: Path,
    *,
    base: str | None = None,
    wheels: Path | None = None,
    platforms: Sequence[str] = (),
) -> bool:
    """Write a build context for `bundle`, whole or not at all.

    Parameters
    ----------
    bundle : Path
        Verified first; only its core is taken.
    directory : Path
        Made. A context that is there already is replaced; anything else there is an error.
    base : str, optional
        The base image; the Dockerfile's own when left out.
    wheels : Path, optional
        Folder of wheels to build from. Those that the lock allows are taken.
    platforms : sequence of str
        What it must be possible to build; decides which wheels are needed.

    Returns
    -------
    bool
        Whether all wheels are in the context, so that the build asks no index.

    Raises
    ------
    BundleError
        When the bundle's core is damaged.
    ImageError
        When the context cannot be written.
    """
    lock_text = locked_packages(verify_bundle(bundle, evidence=False).task)
    whole = directory / CONTEXT_FILE, directory / _LOCK
    if directory.exists() and any(directory.iterdir()) and not all(map(Path.exists, whole)):
        raise ImageError(f"{directory}: exists and is no build context; remove it or name another")
    with writing(directory, "--context-only") as aside:
        made = aside / "made"
        complete = _fill(made, bundle, base or default_base(), lock_text, wheels, platforms)
        put(made, directory)
    return complete


def _fill(
    made: Path,
    bundle: Path,
    base: str,
    lock_text: str,
    wheels: Path | None,
    platforms: Sequence[str],
) -> bool:
    (made / _WHEELS).mkdir(parents=True)
    resources = resource_folder("docker")
    text = (resources / "runtime.Dockerfile").read_text(encoding="utf-8")
    # A function gives the replacement, so that nothing in the name is taken for a group.
    text = re.sub(r"^ARG BASE=.*$", lambda _: f"ARG BASE={base}", text, flags=re.MULTILINE)
    (made / CONTEXT_FILE).write_text(text, encoding="utf-8")
    lock = read_lock(lock_text)
    complete = wheels is not None
    for name in platforms if wheels is not None else ():
        found = wheels_for(PLATFORMS[name], lock, Path(wheels or "."))
        complete = complete and found.keys() == lock.keys()
        for wheel in found.values():
            shutil.copyfile(wheel, made / _WHEELS / wheel.name)
    own, requirement = write_own_wheel(made / _WHEELS)
    own_line = f"{requirement} \\\n    --hash=sha256:{file_digest(own)}\n"
    (made / _LOCK).write_text(lock_text + own_line, encoding="utf-8")
    index = "no-index = true\n" if complete else ""
    pip = f"[install]\nfind-links = /context/{_WHEELS}\n{index}"
    (made / "pip.conf").write_text(pip, encoding="utf-8")
    _copy_core(bundle, made / "bundle")
    for path in sorted(made.rglob("*"), reverse=True):  # what lies in a folder before the folder
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (EPOCH, EPOCH))
    return complete


def _copy_core(bundle: Path, into: Path) -> None:
    """Copy what ``core.sha256`` lists, the list, and its signature where there is one."""
    lines = (bundle / CORE_LIST).read_text(encoding="utf-8").splitlines()
    names = [line.partition("  ")[2] for line in lines]
    optional = [CORE_SIGNATURE] if (bundle / CORE_SIGNATURE).is_file() else []
    for name in [*names, CORE_LIST, *optional]:
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle / name, into / name)
