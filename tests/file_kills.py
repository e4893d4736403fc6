"""Kills commands at seeded file-system events, and checks what is left and what comes after.

A kill is SIGKILL just before the N-th event of the command (a file opened for writing, a rename, a
removal, a folder made …), or a signal some milliseconds after it, in the middle of a write. Each
command runs in a process of its own, forked from one that has the libraries imported already.

`tests/test_file_kills.py` does it a few times, `benchmarks/kill_commands.py` many.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import random
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecompress.bundle import verify_bundle
from edgecompress.provenance import code_digest
from edgecompress.values import directory_digests, file_digest

PATIENCE_S = 900.0
OURS = re.compile(r"\.edgecompress-[0-9a-f]{12}-[a-z0-9_]{8}")
_CHANGES = {
    "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate",
    "os.chmod",
}  # fmt: skip
_WITH_TORCH = (
    "training", "surgery", "tasks.masked", "targets.torch", "stages.distil", "stages.export",
    "stages.f", "stages.prune", "stages.vocabulary", "stages.tune", "stages.quantize.inc",
    "stages.quantize.auto", "quantization.inc",
)  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Command:
    """A command that writes.

    Attributes
    ----------
    name : str
    arguments : callable
        Given the folder of the try, gives the command line; writes go below that folder only.
    outputs : tuple of str
        What it writes, below the folder of the try.
    describe : callable
        Given an output that is there, gives what must be the same after every complete run; fails
        on a half-written one.
    prepare : callable, optional
        Given the folder of the try, lays out what the command finds there.
    single : bool
        Whether it refuses an output that is there: a whole one is moved away before it runs again.
    torch : bool
        Whether PyTorch is used.
    first : callable, optional
        Gives the command line that is killed, where it is not the one of the next run.
    store : Path, optional
        Where a filled store is kept, which every try gets a copy of.
    events : list of int
        How many events a complete run has; found out by the first one.
    expected : dict
        What a complete run gives, by output; ``before NAME``: what was there before it.
    """

    name: str
    arguments: Callable[[Path], list[str]]
    outputs: tuple[str, ...]
    describe: Callable[[Path], Any]
    prepare: Callable[[Path], None] | None = None
    single: bool = False
    torch: bool = False
    first: Callable[[Path], list[str]] | None = None
    store: Path | None = None
    events: list[int] = field(default_factory=list)
    expected: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a kill did: `hit` is False where the command was done before it came."""

    command: str
    seed: int
    event: int
    hit: bool
    seen: str
    leftovers: int


def whole_tree(output: Path) -> Any:
    """Describe a file or a candidate's directory: every byte, but for how long its making took."""
    if output.is_file():
        return file_digest(output)
    found: dict[str, Any] = dict(directory_digests(output))
    if "candidate.json" in found:
        document = json.loads((output / "candidate.json").read_text())
        for step in document["steps"]:
            step.pop("seconds", None)
            step.pop("measured", None)
        found["candidate.json"] = document
    return found


def whole_bundle(output: Path) -> Any:
    """Describe a bundle by its core, after a check of all of it."""
    verify_bundle(output)
    return (output / "core.sha256").read_text()


def whole_report(output: Path) -> Any:
    """Describe a document and a page by what stands in them that no clock decides."""
    return sorted(json.loads(output.read_text())) if output.suffix == ".json" else _page(output)


def _page(output: Path) -> str:
    text = output.read_text()
    assert text.rstrip().endswith("</html>"), f"{output} is half a page"
    return "a whole page"


def learn(command: Command, folder: Path) -> None:
    """Run a command to its end: how many events it has, and what it gives."""
    for _ in range(2 if command.store else 1):
        lay_out(command, folder)
        status, events = run(command, folder, None, command.first)
        assert status == 0, f"{command.name}: {said(folder)}"
        if command.store and not command.store.exists():
            (folder / "store").rename(command.store)
    command.events[:] = [events]
    if command.first:
        status, _ = run(command, folder, None)
        assert status == 0, f"{command.name}: {said(folder)}"
    command.expected.update({name: command.describe(folder / name) for name in command.outputs})


def kill_once(command: Command, seed: int, folder: Path) -> Outcome:
    """Kill a command once, look at what is there, and run it again.

    Raises
    ------
    AssertionError
        When something half-written can be seen, the next run fails or gives something else, or
        what was left is not swept by it.
    """
    chance = random.Random(f"{command.name} {seed}")
    event = chance.randint(1, command.events[0])
    delay_s = 0.0 if chance.random() < 0.6 else chance.uniform(0.0002, 0.01)
    lay_out(command, folder)
    status, _ = run(command, folder, (event, delay_s), command.first)
    what = f"{command.name}, seed {seed}, event {event} of {command.events[0]}"
    assert status in (0, -signal.SIGKILL, -signal.SIGALRM), f"{what}: {status}: {said(folder)}"
    seen = [name for name in command.outputs if (folder / name).exists()]
    for name in seen:
        found = command.describe(folder / name)
        before = command.expected.get(f"before {name}")
        assert found in (command.expected[name], before), f"{what}: {name} is not whole"
    left = leftovers(folder)
    for name in command.outputs if command.single else ():
        remove(folder / name)
    status_again, _ = run(command, folder, None)
    assert status_again == 0, f"{what}: the next run failed: {said(folder)}"
    for name in command.outputs:
        found = command.describe(folder / name)
        assert found == command.expected[name], f"{what}: the next run gave something else"
    rest = leftovers(folder)
    assert not rest, f"{what}: left behind: {rest}"
    return Outcome(
        command.name, seed, event, status != 0, "the whole" if seen else "nothing", len(left)
    )


def leftovers(folder: Path) -> list[str]:
    """Name all that a command of ours should have removed."""
    found = [path for path in folder.rglob("*") if OURS.fullmatch(path.name)]
    for name in ("store/aside", "store/scratch"):
        if (folder / name).is_dir():
            found += (folder / name).iterdir()
    found += (folder / "emulation").glob(".part-*")
    return sorted({path.relative_to(folder).as_posix() for path in found})


def lay_out(command: Command, folder: Path) -> None:
    """Make the folder of a try anew, with what its command finds there."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tmp").mkdir(parents=True)
    if command.prepare:
        command.prepare(folder)
    if command.store and command.store.exists():
        shutil.copytree(command.store, folder / "store")


def remove(path: Path) -> None:
    """Remove a file or a directory."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def run(
    command: Command,
    folder: Path,
    kill: tuple[int, float] | None,
    arguments: Callable[[Path], list[str]] | None = None,
) -> tuple[int, int]:
    """Run a command in a process of its own; give its status and the number of its events."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.close(reading)
            code = _child((arguments or command.arguments)(folder), folder, kill, writing)
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        counted = stream.read()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), int(counted or b"0")


def said(folder: Path) -> str:
    """Give the end of what the last command wrote."""
    return folder.with_name("said.txt").read_text(errors="replace")[-1500:]


def _child(arguments: list[str], folder: Path, kill: tuple[int, float] | None, counts: int) -> int:
    out = os.open(folder.with_name("said.txt"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(out, number)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(PATIENCE_S))
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
    os.environ["EDGECOMPRESS_STORE"] = str(folder / "store")
    os.environ["EDGECOMPRESS_EMULATION"] = str(folder / "emulation")
    os.chdir(folder)
    counter = _Counter(str(folder), kill)
    sys.addaudithook(counter.see)
    from edgecompress.cli.main import main

    try:
        main(arguments)
    except SystemExit as stop:
        code = int(stop.code or 0)
    counter.kill = None
    os.write(counts, str(counter.seen).encode())
    sys.stdout.flush()
    sys.stderr.flush()
    return code


class _Counter:
    """Counts changes below a folder, and ends this process at one of them."""

    def __init__(self, place: str, kill: tuple[int, float] | None) -> None:
        self.place, self.kill, self.seen = place, kill, 0

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if not (isinstance(arguments[2], int) and arguments[2] & _WRITING):
                return
        elif event not in _CHANGES:
            return
        path = arguments[0]
        name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        # A name without a folder is relative to one that is open, as `rmtree` has it.
        if not name.startswith(self.place) and "/" in name:
            return
        self.seen += 1
        if self.kill is None or self.seen != self.kill[0]:
            return
        if self.kill[1] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        signal.setitimer(signal.ITIMER_REAL, self.kill[1])


def preload(torch: bool) -> None:
    """Import here what the commands need, so that no try has to."""
    import onnx  # noqa: F401
    import onnxruntime.quantization  # noqa: F401
    import rich.progress  # noqa: F401

    import edgecompress

    for module in pkgutil.walk_packages(edgecompress.__path__, "edgecompress."):
        name = module.name.removeprefix("edgecompress.")
        if name.endswith("__main__") or (not torch and name.startswith(_WITH_TORCH)):
            continue
        importlib.import_module(module.name)
        if name.startswith("stages."):
            code_digest(module.name)  # of all that it imports: once here, not in every try
    if torch:
        import torch as library
        import transformers  # noqa: F401

        library.set_num_threads(1)
