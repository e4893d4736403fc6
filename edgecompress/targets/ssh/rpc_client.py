"""The host's end of the RPC server: requests to it, one after the other, and its heartbeats."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh

from edgecompress.targets import agent
from edgecompress.targets.ssh import rpc_server
from edgecompress.targets.ssh.connection import Link, LostError, losses

HEARTBEAT_S = 5.0
"""Seconds between two signs of life of the host."""
SILENCE_S = 40.0
"""So long without one, the RPC server and the agent end themselves."""
_BOOT = (
    "import sys;sys.path[:]=[p for p in sys.path if p];import json;"
    "exec(json.loads(sys.stdin.readline()))"
)


class BoardError(Exception):
    """The RPC server could not do what it was asked; the text says why.

    Parameters
    ----------
    text : str
    number : int or None
        The board's ``errno``.
    """

    def __init__(self, text: str, number: int | None = None) -> None:
        super().__init__(text)
        self.number = number


@functools.cache
def _program() -> str:
    """Give the source that the board's Python is to run: RPC server and agent, and their start."""
    modules = {
        f"{package.__name__}.{file.stem}": file.read_text(encoding="utf-8")
        for package in (agent, rpc_server)
        for file in sorted(Path(str(package.__file__)).parent.glob("*.py"))
        if not file.stem.startswith("__")
    }
    boot = modules.pop(f"{rpc_server.__name__}.boot")
    main = f"{rpc_server.__name__}.server"
    return f"{boot}\n\nstart({main!r}, {modules!r}, {SILENCE_S!r})\n"


class RpcClient:
    """A running RPC server."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes], silence_s: float) -> None:
        self._process, self._silence_s = process, silence_s
        self._turn = asyncio.Lock()
        self._number = 0
        self.ended = False
        self._beats: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, link: Link, python: str, silence_s: float) -> RpcClient:
        """Run an RPC server with the board's `python`.

        Raises
        ------
        LostError, BoardError
        """
        command = f"exec {shlex.quote(python)} -c {shlex.quote(_BOOT)}"
        async with losses(silence_s):
            process = await link.ssh.create_process(command, encoding=None)
            found = cls(process, silence_s)
            process.stdin.write(json.dumps(_program()).encode() + b"\n")
        await found._read(lambda said: "ready" in said)
        found._beats = asyncio.create_task(heartbeats(process.stdin))
        return found

    async def _read(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read lines until one is wanted; what is no JSON object is the noise of a login."""
        while True:
            async with losses(self._silence_s):
                line = await self._process.stdout.readline()
            if not line:
                raise await self._ended()
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if isinstance(said, dict) and wanted(said):
                    return said

    async def _ended(self) -> Exception:
        self.ended = True
        errors = b""
        with contextlib.suppress(LostError):
            async with losses(5.0):
                errors = await self._process.stderr.read(4000)
                await self._process.wait_closed()
        lines = errors.decode("utf-8", "replace").strip().splitlines()
        if self._process.returncode is None:
            return LostError("the connection was lost")
        if not lines:
            return LostError("our process on the board was ended (memory may have run out)")
        return BoardError(f"its Python failed: {lines[-1][:300]}")

    async def ask(self, what: str, **arguments: Any) -> Any:
        """Have the RPC server do something and give its answer.

        Raises
        ------
        LostError
            When the connection is gone or nothing is heard for the idle timeout.
        BoardError
            When it cannot be done.
        """
        async with self._turn:
            self._number += 1
            number = self._number
            request = {"id": number, "do": what, **arguments}
            async with losses(self._silence_s):
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                await self._process.stdin.drain()
            said = await self._read(lambda said: said.get("id") == number)
        if "refused" in said:
            raise BoardError(said["refused"])
        if "failed" in said:
            raise BoardError(said["failed"], said.get("errno"))
        return said["answer"]

    async def close(self) -> None:
        """End the RPC server, which removes its job folders."""
        if self._beats is not None:
            self._beats.cancel()
        with contextlib.suppress(LostError, OSError):
            self._process.stdin.write_eof()
            async with losses(5.0):
                await self._process.wait_closed()
        self._process.close()


async def heartbeats(stdin: asyncssh.SSHWriter[bytes]) -> None:
    """Tell the board every few seconds that this host still lives, until the connection ends."""
    with contextlib.suppress(OSError, asyncssh.Error):
        while not stdin.is_closing():
            stdin.write(b"\n")
            await asyncio.sleep(HEARTBEAT_S)
