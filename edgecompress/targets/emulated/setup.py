"""Preparing an emulated processor: once per user, without rights, safe to kill and to share.

Below the user's cache folder (``emulation``, or the folder that ``EDGECOMPRESS_EMULATION`` names)
lie ``qemu-…`` (only where the host has none), ``root-…`` and ``plugin-…``. Each name holds the
digest of what it was made of, so a new version is made beside the old one; each is written aside,
with its ``marker.json`` last, and renamed into place under a lock.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgecompress.errors import TargetError
from edgecompress.private import distrust
from edgecompress.targets.base import Progress
from edgecompress.targets.emulated import debian, plugin, qemu, root
from edgecompress.targets.emulated.cpus import CPUS, Cpu, cpuinfo, find_cpu
from edgecompress.targets.machine import cache_folder
from edgecompress.values import Json, file_digest, json_digest

LAYOUT = 1
"""Raised when the folders' content changes, so that they are made anew."""
MARKER = "marker.json"
PART = ".part-"
"""Begins the names of folders that are being made or removed."""
FOLDER_VARIABLE = "EDGECOMPRESS_EMULATION"
_STEPS = 5.0
_TRY = "import numpy, onnxruntime, tokenizers"
_OPTIONS = ("-S", "-s", "-P")  # no site: it would find the host's packages


def emulation_folder() -> Path:
    """Give the folder that holds all that is prepared; it need not be there.

    Raises
    ------
    TargetError
        When other users can write there: programs of it are executed.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    folder = Path(named).absolute() if named else cache_folder() / "emulation"
    if folder.exists() and (reason := distrust(folder)):
        raise TargetError(
            f"nothing is run from {folder}: {reason}; name a folder that only you can write with "
            f"{FOLDER_VARIABLE}"
        )
    return folder


@dataclass(frozen=True, slots=True)
class Emulation:
    """A processor that is ready to run programs.

    Attributes
    ----------
    cpu : Cpu
    qemu : tuple of str
        The emulator's command.
    root : Path
        What `root` made; its ``marker.json`` has the versions.
    plugin : Path or None
    reason : str or None
        Why there is no plugin, and what to do.
    """

    cpu: Cpu
    qemu: qemu.Command
    root: Path
    plugin: Path | None
    reason: str | None

    @property
    def view(self) -> Path:
        """The folder that QEMU lays over the host's files."""
        return root.view_of(self.root, self.cpu)

    def emulate(self, *, counting: bool = False) -> list[str]:
        """Give the emulator's command; a program's follows."""
        options = plugin.option(self.plugin) if counting and self.plugin is not None else ()
        return [*self.qemu, "-cpu", self.cpu.model, "-L", str(self.view), *options]

    def python(self) -> list[str]:
        """Give the Python to be emulated: the root's, or this one where the machine is ours."""
        if is_host(self.cpu):
            return [sys.executable, "-P"]
        return [str(self.view / "usr" / "bin" / f"python{root.PYTHON}"), *_OPTIONS]

    def environment(self) -> dict[str, str]:
        """Give the whole environment of an emulated program, the same on every host."""
        found = {"HOME": "/", "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"}
        found |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
        if not is_host(self.cpu):
            return {**found, "PYTHONPATH": str(self.root / "site")}
        keep = ("PYTHONPATH", "LD_LIBRARY_PATH")  # what this Python may need to find its own
        return found | {name: os.environ[name] for name in keep if name in os.environ}

    def versions(self) -> Json:
        """Say what answers depend on: emulator, packages, libraries."""
        marker = json.loads((self.root / MARKER).read_text(encoding="utf-8"))
        marker.pop("digest", None)  # bytecode holds times: it is another one on every host
        return {**marker, "model": self.cpu.model, "qemu": qemu.version_of(self.qemu)}


def is_host(cpu: Cpu) -> bool:
    """Whether the host has the machine's instruction set, so that its own Python will do."""
    return platform.machine() == cpu.machine


def _places(cpu: Cpu) -> tuple[Path, Path, Path]:
    """Name the folders of emulator, root and plugin for this host and these versions."""
    folder = emulation_folder()
    host = is_host(cpu)
    emulator = folder / f"qemu-{platform.machine()}-{debian.SUITE}-{LAYOUT}"
    made_of = {
        "layout": LAYOUT,
        "cpus": {each.name: cpuinfo(each) for each in CPUS.values() if each.machine == cpu.machine},
        "system": None if host else [debian.SUITE, *root.PACKAGES],
        "libraries": root.library_versions(),
        "python": sys.version if host else root.PYTHON,
    }
    system = folder / f"root-{cpu.machine}-{json_digest(made_of)[:16]}"
    found, dynamic = qemu.installed(cpu.machine)
    built_of = {
        "layout": LAYOUT,
        "qemu": qemu.version_of((found,)) if found and dynamic else debian.SUITE,
        "compiler": plugin.compiler(),
        "source": file_digest(plugin.SOURCE),
    }
    return emulator, system, folder / f"plugin-{cpu.machine}-{json_digest(built_of)[:16]}"


def _whole(place: Path) -> bool:
    """Whether a folder is what `_build` made, file by file: programs of it will be executed."""
    try:
        marker = json.loads((place / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(marker.get("digest") == _digest(place))


@functools.cache
def _digest(place: Path) -> str:
    """Digest of all files and links below a folder, its marker left out."""
    found = {}
    for folder, folders, files in os.walk(place):
        for name in (*folders, *files):
            path = Path(folder, name)
            within = path.relative_to(place).as_posix()
            if path.is_symlink():
                found[within] = f"to {path.readlink()}"
            elif path.is_file() and within != MARKER:
                found[within] = file_digest(path)
    return json_digest(found)


def _ready(cpu: Cpu) -> Emulation | None:
    """Give what is prepared already, all of it, or None."""
    emulator, system, counter = _places(cpu)
    if not (_whole(system) and _whole(counter)):
        return None
    found, dynamic = qemu.installed(cpu.machine)
    if _whole(emulator) and not dynamic:
        command = qemu.fetched(emulator, cpu.machine)
    elif found is not None:
        command = (found,)
    else:
        return None
    reason = json.loads((counter / MARKER).read_text(encoding="utf-8"))["reason"]
    return Emulation(cpu, command, system, None if reason else counter / plugin.FILE, reason)


def prepared(cpu: str) -> bool:
    """Whether a processor is ready in the versions that are installed now.

    Parameters
    ----------
    cpu : str
        Its name or its target's URL.

    Raises
    ------
    RecipeError
        When there is none of that name.
    """
    return _ready(find_cpu(cpu)) is not None


def prepare(cpu: str, progress: Progress | None = None) -> Emulation:
    """Have a processor ready; what is there already is kept.

    Parameters
    ----------
    cpu : str
        Its name or its target's URL.
    progress : callable, optional
        Told the step, the number of steps, and what is going on.

    Raises
    ------
    RecipeError
        When there is none of that name.
    TargetError
        When it cannot be had; the text says which packages to install.
    """
    from filelock import FileLock

    which = find_cpu(cpu)
    found = _ready(which)
    if found is not None:
        _sweep(emulation_folder())
        return found
    again = f"edgecompress targets prepare {which.url}"
    if lacking := _lacking(which):
        raise TargetError(
            f"{which.url} cannot be prepared before this host has the Debian packages "
            f"{', '.join(lacking)}; install them and run: {again}"
        )
    folder = emulation_folder()
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            _remove_parts(folder)
            found = _ready(which)
            return found if found is not None else _make(which, folder, progress)
    except OSError as error:
        raise TargetError(f"{which.url} cannot be prepared in {folder}: {error}") from None
    except TargetError as error:
        raise TargetError(
            f"{which.url} cannot be prepared: {error}; mend that and run: {again}"
        ) from None


def _sweep(folder: Path) -> None:
    """Remove what a killed preparation left, unless another one is at work."""
    from filelock import FileLock, Timeout

    if any(folder.glob(f"{PART}*")):
        with contextlib.suppress(Timeout, OSError), FileLock(folder / ".lock", timeout=0):
            _remove_parts(folder)


def _remove_parts(folder: Path) -> None:
    """Remove half-made folders; whoever calls it has the lock, so nobody makes them."""
    for litter in folder.glob(f"{PART}*"):
        shutil.rmtree(litter, ignore_errors=True)


def _lacking(cpu: Cpu) -> list[str]:
    """Name the Debian packages that the host needs before `cpu` can be prepared."""
    if not sys.platform.startswith("linux"):
        raise TargetError(f"{cpu.url} needs Linux: QEMU emulates programs of Linux only there")
    fetching = debian.missing()
    has_qemu = qemu.installed(cpu.machine)[0] is not None
    can_fetch = not fetching and platform.machine() in root.ARCHITECTURES
    return [
        *([] if has_qemu or can_fetch else ["qemu-user"]),
        *([] if is_host(cpu) else fetching),
    ]


def _make(cpu: Cpu, folder: Path, progress: Progress | None) -> Emulation:
    def tell(step: int, what: str) -> None:
        if progress is not None:
            progress(float(step), _STEPS, f"preparing {cpu.url}: {what}")

    emulator, system, counter = _places(cpu)
    command = _emulator(cpu, emulator, folder, tell)
    if not _whole(system):
        _build(system, folder, lambda aside, work: _root(cpu, command, aside, work, tell))
    now = Emulation(cpu, command, system, None, None)
    if not _whole(counter):
        tell(4, "the plugin that counts instructions")
        _build(
            counter,
            folder,
            lambda aside, _: {"reason": plugin.build(now.emulate(), now.python(), aside)},
        )
    tell(5, "ready")
    done = _ready(cpu)
    if done is None:
        raise TargetError("the host's emulator or libraries changed meanwhile")
    return done


def _emulator(
    cpu: Cpu, place: Path, folder: Path, tell: Callable[[int, str], None]
) -> qemu.Command:
    """Find an emulator that takes plugins, fetch one, or make do with one that takes none."""
    found, dynamic = qemu.installed(cpu.machine)
    if found is not None and dynamic:
        return (found,)
    architecture = root.ARCHITECTURES.get(platform.machine())
    if found is not None and (debian.missing() or architecture is None):
        return (found,)
    if not _whole(place):
        tell(0, "Debian's qemu-user")
        try:
            _build(place, folder, lambda aside, work: qemu.fetch(str(architecture), aside, work))
        except TargetError as error:
            if found is not None:
                return (found,)
            raise TargetError(f"{error} (or install the package qemu-user)") from None
    return qemu.fetched(place, cpu.machine)


def _root(
    cpu: Cpu, command: qemu.Command, aside: Path, work: Path, tell: Callable[[int, str], None]
) -> Json:
    """Make the root in `aside`, and see that the libraries can be imported in it."""
    host = is_host(cpu)
    packages: dict[str, str] = {}
    if not host:
        tell(1, "a small Debian")
        packages = root.add_system(aside, debian.Apt(work, root.ARCHITECTURES[cpu.machine]))
        tell(2, "onnxruntime and numpy")
        root.add_wheels(aside, cpu.machine, work / "wheels")
    root.add_views(aside, cpu.machine, with_system=not host)
    tell(3, "a first import")
    trial = Emulation(cpu, command, aside, None, None)
    environment = [f"{key}={value}" for key, value in trial.environment().items()]
    # Here bytecode is written: no later import has to compile again.
    environment.remove("PYTHONDONTWRITEBYTECODE=1")
    debian.run(
        ["env", "-i", *environment, *trial.emulate(), *trial.python(), "-c", _TRY],
        "importing onnxruntime under emulation",
    )
    python = platform.python_version() if host else packages[f"python{root.PYTHON}-minimal"]
    return {"packages": packages, "libraries": root.library_versions(), "python": python}


def _build(place: Path, folder: Path, fill: Callable[[Path, Path], Json | None]) -> None:
    """Fill a folder aside and rename it to `place`; what `fill` gives becomes its marker."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=PART) as part:
        aside, work = Path(part) / "made", Path(part) / "work"
        aside.mkdir()
        work.mkdir()
        marker = fill(aside, work)
        _digest.cache_clear()
        marker = {**(marker or {}), "digest": _digest(aside)}
        (aside / MARKER).write_text(json.dumps(marker), encoding="utf-8")
        if place.exists():  # not whole, or it would not be made again
            shutil.rmtree(place)
        aside.rename(place)


def clean() -> int:
    """Remove all that was prepared, and give the bytes that it took."""
    from filelock import FileLock

    folder = emulation_folder()
    if not folder.is_dir():
        return 0
    with FileLock(folder / ".lock"):
        before = _bytes_below(folder)
        for entry in list(folder.iterdir()):
            if entry.is_dir() and not entry.name.startswith(PART):
                # Out of sight first: half of a folder is never seen.
                entry.rename(Path(tempfile.mkdtemp(dir=folder, prefix=PART)) / entry.name)
        for entry in folder.glob(f"{PART}*"):
            shutil.rmtree(entry)
        return before - _bytes_below(folder)


def _bytes_below(folder: Path) -> int:
    """Bytes of all files in `folder`, each counted once however often it is linked."""
    found = (path.lstat() for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return sum({(one.st_dev, one.st_ino): one.st_size for one in found}.values())
