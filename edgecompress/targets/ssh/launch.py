"""The agent on a board: started over the connection, followed line by line, never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import signal
from collections.abc import Mapping
from pathlib import Path

import asyncssh

from edgecompress.errors import TargetError
from edgecompress.targets.archive import agent_archive
from edgecompress.targets.base import Job, Progress
from edgecompress.targets.process import agent_environment, cause, tell
from edgecompress.targets.ssh.board import Board
from edgecompress.targets.ssh.connection import AGAIN, LostError, losses
from edgecompress.targets.ssh.rpc_client import SILENCE_S, heartbeats

ALONE = ("time", "cold", "operators")
"""Modes that are nothing worth beside another job: they lock the board."""
_KEPT_ERRORS = 65536


async def run_on_board(board: Board, folder: Path, job: Job, progress: Progress | None) -> None:
    """Run the agent on `folder` there; what it wrote is in `folder` afterwards.

    The job's folder on the board is removed, whatever happened.

    Raises
    ------
    LostError
    TargetError
        When the agent fails or falls silent.
    """
    agent, _, _ = await board.put(await asyncio.to_thread(agent_archive))
    place = await board.ask("job")
    try:
        sent = sorted(file for file in folder.iterdir() if file.is_file())
        await board.send_into(place, sent)
        environment = {**agent_environment(job), "EDGECOMPRESS_WATCHDOG": f"{SILENCE_S:g}"}
        if job.mode in ALONE:
            environment["EDGECOMPRESS_LOCK"] = f"{board.shell.cache}/timing.lock"
        await _follow(board, [board.shell.python, agent, place], environment, job, progress)
        await board.fetch_from(place, folder, [file.name for file in sent])
    finally:
        with contextlib.suppress(LostError, TargetError):  # it is removed at the end there, too
            await board.ask("drop", path=place)


async def _follow(
    board: Board,
    command: list[str],
    environment: Mapping[str, str],
    job: Job,
    progress: Progress | None,
) -> None:
    """Start the agent and read what it says until it ends."""
    words = ["exec", "env", *(f"{key}={value}" for key, value in environment.items()), *command]
    async with losses(board.spec.idle_timeout_s):
        process = await board.link.ssh.create_process(shlex.join(words), encoding=None)
    beats = asyncio.create_task(heartbeats(process.stdin))
    errors = asyncio.create_task(_collect(process.stderr))
    try:
        while line := await _line(board, process, job):
            tell(line.decode("utf-8", "replace"), job, progress)
        async with losses(board.spec.idle_timeout_s):
            await process.wait_closed()
            said = (await errors).decode("utf-8", "replace")
        _judge(board, process, said)
    finally:
        beats.cancel()
        errors.cancel()
        await _end(process)


async def _line(board: Board, process: asyncssh.SSHClientProcess[bytes], job: Job) -> bytes:
    """Give the next line, or nothing at the end."""
    try:
        async with losses():
            async with asyncio.timeout(job.timeout_s) as limit:
                return await process.stdout.readline()
    except LostError:
        if not limit.expired():
            raise
        raise TargetError(
            f"{board.where}: the agent said nothing for {job.timeout_s:g} s and was ended; {AGAIN}"
        ) from None


async def _collect(stream: asyncssh.SSHReader[bytes]) -> bytes:
    """Read standard error to its end, so that it never fills; keep its last part."""
    kept = b""
    with contextlib.suppress(OSError, asyncssh.Error):
        while block := await stream.read(4096):
            kept = (kept + block)[-_KEPT_ERRORS:]
    return kept


async def _end(process: asyncssh.SSHClientProcess[bytes]) -> None:
    """End an agent that still runs: it sees the end of its input, and is killed where SSH can."""
    if process.returncode is None and not process.is_closing():
        with contextlib.suppress(OSError, asyncssh.Error):
            process.stdin.write_eof()
            process.kill()
            async with asyncio.timeout(5):
                await process.wait_closed()
    process.close()


def _judge(board: Board, process: asyncssh.SSHClientProcess[bytes], said: str) -> None:
    """Raise what a failed agent means."""
    status = process.returncode
    if status is None:
        raise LostError("the connection was lost")
    status = int(status)
    if status > 128 and status - 128 in set(signal.Signals):
        status = 128 - status  # a shell between us and the agent says it so
    if status == 0:
        return
    if "No space left on device" in said or "Errno 28" in said:
        raise board.full()
    text = cause(status, said)
    again = f"; {AGAIN}" if status < 0 else ""
    raise TargetError(f"{board.where}: {text}{again}")
