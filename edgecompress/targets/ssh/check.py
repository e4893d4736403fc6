"""What a board is, what it lacks, and what to do about each: `edgecompress targets check`."""

from __future__ import annotations

from collections.abc import Iterator

from edgecompress.errors import TargetError
from edgecompress.targets.spec import TargetFinding, TargetReport, governor, report_of
from edgecompress.targets.ssh.address import named
from edgecompress.targets.ssh.board import MB
from edgecompress.targets.ssh.connection import LostError, connect
from edgecompress.targets.ssh.fields import SshFields
from edgecompress.targets.ssh.loop import wait_for
from edgecompress.targets.ssh.shell import ShellFacts, ask_shell
from edgecompress.targets.ssh.target import OLDEST_PYTHON, Ssh
from edgecompress.targets.ssh.wheels import (
    MACHINES,
    OLDEST_GLIBC,
    read_glibc,
    wanted_python,
    wanted_versions,
)
from edgecompress.values import Json

_COMMAND = (
    "run there: echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
)
ROOM = 400 * MB
"""Disk that the environment takes (about 200 MB, its wheels beside it meanwhile) and a model."""


def check(spec: SshFields) -> TargetReport:
    """Look at a board; nothing is written there.

    Raises
    ------
    TargetError
        When it cannot be reached.
    """
    host, found = _probe(spec)
    findings = tuple(of_shell(found, spec))
    target = Ssh(spec)
    if found.version < OLDEST_PYTHON:
        bare: Json = {
            "machine": found.machine,
            "kernel": found.kernel,
            "libc": found.libc or None,
            "bits": int(found.bits) if found.bits.isdigit() else None,
            "python": ".".join(map(str, found.version)) or None,
        }
        return report_of(spec, target, bare, findings, host)
    try:
        facts = target.describe()
        look = target.use("looking at it", lambda board: board.ask("look", cache=found.cache))
    finally:
        target.close()
    said = of_description(facts, look["free"], found.cache, spec)
    return report_of(spec, target, facts, (*findings, *said), host)


def _probe(spec: SshFields) -> tuple[str, ShellFacts]:
    async def ask() -> tuple[str, ShellFacts]:
        link = await connect(spec)
        try:
            return link.host, await ask_shell(link, spec)
        except LostError as error:
            raise TargetError(f"{named(spec, link.host)}: {error}; try again") from None
        finally:
            await link.close()

    return wait_for(ask())


def of_shell(found: ShellFacts, spec: SshFields) -> Iterator[TargetFinding]:
    """Find what a plain shell can tell: machine, word size, C library, Python."""
    if found.bits == "32" or found.machine.startswith(("armv6", "armv7", "i")):
        yield TargetFinding(
            f"a 32-bit system ({found.machine})",
            "ONNX Runtime has no wheels for it; install a 64-bit system, such as the 64-bit "
            "Raspberry Pi OS",
            "refused",
        )
    elif found.machine not in MACHINES:
        yield TargetFinding(
            f"a {found.machine} processor",
            "ONNX Runtime has wheels for aarch64 and x86_64 only; use another board",
            "refused",
        )
    glibc = read_glibc(found.libc)
    if "musl" in found.libc.lower():
        yield TargetFinding(
            "the C library musl",
            "ONNX Runtime's wheels need glibc; install a system such as Debian, or Raspberry Pi OS",
            "refused",
        )
    elif glibc is not None and glibc < OLDEST_GLIBC:
        yield TargetFinding(
            f"an old C library, glibc {glibc[0]}.{glibc[1]}",
            f"the wheels need {OLDEST_GLIBC[0]}.{OLDEST_GLIBC[1]} or later; install a newer "
            "system, such as Debian 11",
            "refused",
        )
    if not found.python:
        yield TargetFinding(
            f"{spec.python} is no Python there" if spec.python else "no python3",
            "correct `python`" if spec.python else "install it there: sudo apt install python3",
            "refused",
        )
    elif needs := wanted_python(found.version):
        version = ".".join(map(str, found.version))
        yield TargetFinding(
            f"Python {version}",
            f"{needs}; install a newer one there and name it as `python`",
            "refused",
        )


def of_description(facts: Json, free: int, cache: str, spec: SshFields) -> Iterator[TargetFinding]:
    """Find what the board's own Python can tell: libraries, room, governor."""
    prepare = f"run: edgecompress targets prepare {spec.name}"
    libraries = facts["libraries"]
    missing = [one for one in ("onnxruntime", "numpy") if one not in libraries]
    if missing:
        yield TargetFinding(f"no {' and no '.join(missing)}", prepare, "missing")
    else:
        if "tokenizers" not in libraries:
            yield TargetFinding("no tokenizers, so tokenization cannot be timed", prepare)
        here = wanted_versions()
        for one in ("onnxruntime", "numpy"):
            if libraries[one] != here[one]:
                yield TargetFinding(
                    f"{one} {libraries[one]}, and {here[one]} on this machine",
                    f"answers may differ for that alone; {prepare}",
                )
    room = ROOM if missing else ROOM / 4
    if free < room:
        yield TargetFinding(
            f"{free / MB:.0f} MB free where {cache} lies",
            f"make {room / MB:.0f} MB free there, or name another folder as `cache`",
            "refused",
        )
    yield from governor(spec, facts, _COMMAND)
    if facts.get("emulated"):
        yield TargetFinding(
            "an emulator behind the connection",
            "answers are sound; times and memory are marked invalid",
        )
