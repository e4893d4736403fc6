"""Give a board what the agent needs: a virtual environment of wheels that are carried over.

Nothing is fetched by the board, and nothing is installed for others than us: the environment lies
in the cache folder. Its interpreter is the board's; pip runs from its own wheel, so that boards
without `ensurepip` (Debian's python3 without python3-venv) can be prepared too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecompress.errors import TargetError
from edgecompress.targets.base import Progress
from edgecompress.targets.process import cause
from edgecompress.targets.spec import TargetReport
from edgecompress.targets.ssh.board import Board
from edgecompress.targets.ssh.check import check
from edgecompress.targets.ssh.fields import SshFields
from edgecompress.targets.ssh.shell import DEFAULT_PYTHON
from edgecompress.targets.ssh.target import Ssh
from edgecompress.targets.ssh.wheels import (
    MACHINES,
    Platform,
    download,
    environment_key,
    read_glibc,
    wanted_versions,
)

_TRY = "import json, onnxruntime, numpy, tokenizers; print(json.dumps({m.__name__: m.__version__ \
for m in (onnxruntime, numpy, tokenizers)}))"


@dataclass(frozen=True, slots=True)
class BoardEnvironment:
    """What a board has now.

    Attributes
    ----------
    python : str
        Its path there.
    versions : dict of str to str
    made : bool
        Whether it was made now; False when it was there.
    """

    python: str
    versions: dict[str, str]
    made: bool


def prepare(spec: SshFields, progress: Progress | None = None) -> BoardEnvironment:
    """Make a virtual environment in the board's cache folder; one that is there is kept.

    Whatever ended an earlier try, the next one goes on: files are not sent again, and a half-made
    environment is made anew.

    Raises
    ------
    TargetError
        When the board cannot be reached, cannot be used, or the wheels cannot be had.
    """
    found = check(spec)
    _refuse(found)
    target = Ssh(spec)
    try:
        platform = _platform(target, found)
        versions = wanted_versions()
        key = environment_key(platform, versions, spec.python or DEFAULT_PYTHON)
        look = target.use("looking at it", lambda board: board.ask("look", cache=board.shell.cache))
        there = look["environment"]
        if there is not None and there.get("key") == key:
            python = target.use("looking at it", lambda board: _works(board, versions))
            if python is not None:
                return BoardEnvironment(python, versions, made=False)
        if progress is not None:
            progress(0, 1, "downloading wheels on this machine")
        pip, wheels = download(platform, spec.name)
        return target.use(
            "preparing it", lambda board: _make(board, key, pip, wheels, versions, progress)
        )
    finally:
        target.close()


def _refuse(found: TargetReport) -> None:
    refused = [finding for finding in found.findings if finding.level == "refused"]
    if refused:
        said = "; ".join(f"{finding.what} ({finding.advice})" for finding in refused)
        raise TargetError(f"{found.spec.name}: {found.host} cannot be used: {said}")


def _platform(target: Ssh, found: TargetReport) -> Platform:
    libc = (found.facts or {}).get("libc")
    wheels = target.use("looking at it", _wheel_facts)
    glibc = read_glibc(libc or "")
    machine = MACHINES.get(str(wheels["machine"]))
    if glibc is None or machine is None or wheels["implementation"] != "cpython":
        raise TargetError(
            f"{found.spec.name}: {found.host}: there are no wheels for {wheels['implementation']} "
            f"with {libc or 'an unknown C library'} on {wheels['machine']}; use "
            "CPython on a system with glibc"
        )
    return Platform(machine, glibc, (wheels["version"][0], wheels["version"][1]))


async def _wheel_facts(board: Board) -> dict[str, Any]:
    return dict((await board.facts())["wheels"])


async def _works(board: Board, versions: dict[str, str]) -> str | None:
    """Give the path of the environment's Python if it has the libraries; None when damaged."""
    await board.files()
    python = f"{board.shell.cache}/venv/bin/python"
    try:
        said = await _spawn(board, [python, "-c", _TRY])
    except TargetError:
        return None
    return python if _missing(said, versions) is None else None


def _missing(said: str, versions: dict[str, str]) -> str | None:
    """Name a library that is not there in its version."""
    for library, version in versions.items():
        if f'"{library}": "{version}' not in said:
            return f"{library} {version}"
    return None


async def _make(
    board: Board,
    key: str,
    pip: Path,
    wheels: tuple[Path, ...],
    versions: dict[str, str],
    progress: Progress | None,
) -> BoardEnvironment:
    carried = [await board.put(wheel, progress) for wheel in (pip, *wheels)]
    places = [path for path, _, _ in carried]
    if progress is not None:
        progress(0, 1, "installing them there")
    folder = (await board.ask("begin_environment", key=key))["folder"]
    python = f"{folder}/bin/python"
    base = (await _wheel_facts(board))["base"]
    await _spawn(board, [base, "-m", "venv", "--without-pip", folder])
    await _spawn(
        board,
        [python, f"{places[0]}/pip", "install", "--quiet", "--no-index", "--no-deps", "--no-input",
         "--disable-pip-version-check", "--no-cache-dir", "--no-warn-script-location",
         *places[1:]],
    )  # fmt: skip
    said = await _spawn(board, [python, "-c", _TRY])
    if missing := _missing(said, versions):
        raise TargetError(f"{board.where}: {missing} does not work there: {said.strip()[-300:]}")
    finished = await board.ask(
        "finish_environment", key=key, base=board.spec.python or DEFAULT_PYTHON
    )
    await board.ask("forget", files=[[digest, name] for _, digest, name in carried])
    return BoardEnvironment(str(finished), versions, made=True)


async def _spawn(board: Board, command: list[str]) -> str:
    """Run a program of the preparation there; give what it said."""
    done = await board.ask("spawn", command=command)
    said = str(done["said"])
    if done["status"]:
        if "No space left" in said or "Errno 28" in said:
            raise board.full()
        hint = (
            "; its processor lacks what the wheels are built for"
            if done["status"] == -4  # SIGILL
            else ""
        )
        text = cause(int(done["status"]), said).replace("the agent", "the preparation")
        raise TargetError(f"{board.where}: {text}{hint}")
    return said
