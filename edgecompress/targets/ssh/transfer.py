"""Bytes to and from a board: by SFTP, or through ``cat`` where it has no SFTP."""

from __future__ import annotations

import asyncio
import functools
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import asyncssh

from edgecompress.targets.ssh.connection import LOST, Link, LostError, losses
from edgecompress.values import file_digest

BLOCK = 1 << 20
"""Bytes between two checks that the board still answers."""
Tell = Callable[[int], None]


class TransferError(Exception):
    """The board could not store or read a file; the text says why."""


class Files(Protocol):
    """A way to move bytes."""

    async def append(self, local: Path, remote: str, offset: int, tell: Tell) -> None:
        """Write what `local` holds from `offset` on to `remote`, which holds the rest already."""
        ...

    async def fetch(self, remote: str, local: Path, size: int) -> None:
        """Write the `size` bytes of `remote` to `local`."""
        ...


class Sftp:
    """By the board's SFTP server."""

    def __init__(self, client: asyncssh.SFTPClient, silence_s: float) -> None:
        self._client, self._silence_s = client, silence_s

    async def append(self, local: Path, remote: str, offset: int, tell: Tell) -> None:
        """Write the rest of a file."""
        try:
            async with losses(self._silence_s):
                there = await self._client.open(remote, "r+b" if offset else "wb")
            try:
                with local.open("rb") as stream:
                    stream.seek(offset)
                    while block := stream.read(BLOCK):
                        async with losses(self._silence_s):
                            await there.write(block, offset)
                        offset += len(block)
                        tell(offset)
            finally:
                await _closed(there)
        except asyncssh.SFTPError as error:
            raise TransferError(error.reason or type(error).__name__) from None

    async def fetch(self, remote: str, local: Path, size: int) -> None:
        """Read a file."""
        offset = 0
        try:
            async with losses(self._silence_s):
                there = await self._client.open(remote, "rb")
            try:
                with local.open("wb") as stream:
                    while offset < size:
                        async with losses(self._silence_s):
                            block = await there.read(min(BLOCK, size - offset), offset)
                        if not block:
                            raise TransferError(f"{Path(remote).name} ended too early")
                        stream.write(block if isinstance(block, bytes) else block.encode())
                        offset += len(block)
            finally:
                await _closed(there)
        except asyncssh.SFTPError as error:
            raise TransferError(error.reason or type(error).__name__) from None


async def _closed(there: asyncssh.SFTPClientFile) -> None:
    try:
        async with losses(3.0):
            await there.close()
    except (LostError, asyncssh.SFTPError):
        pass  # what went wrong before is told already; a lost write shows in the digest


class Cat:
    """Through the board's shell."""

    def __init__(self, link: Link, silence_s: float) -> None:
        self._link, self._silence_s = link, silence_s

    async def append(self, local: Path, remote: str, offset: int, tell: Tell) -> None:
        """Write the rest of a file."""
        command = f"cat {'>>' if offset else '>'} {shlex.quote(remote)}"
        async with losses(self._silence_s):
            process = await self._link.ssh.create_process(command, encoding=None)
        try:
            with local.open("rb") as stream:
                stream.seek(offset)
                while block := stream.read(BLOCK):
                    async with losses(self._silence_s):
                        process.stdin.write(block)
                        await process.stdin.drain()
                    offset += len(block)
                    tell(offset)
            async with losses(self._silence_s):
                process.stdin.write_eof()
                await process.wait(check=False)
            await _status(process)
        except (BrokenPipeError, LostError):
            await _status(process)
            raise
        finally:
            process.close()

    async def fetch(self, remote: str, local: Path, size: int) -> None:
        """Read a file."""
        async with losses(self._silence_s):
            process = await self._link.ssh.create_process(
                f"exec cat {shlex.quote(remote)}", encoding=None
            )
        try:
            done = 0
            with local.open("wb") as stream:
                while True:
                    async with losses(self._silence_s):
                        block = await process.stdout.read(BLOCK)
                    if not block:
                        break
                    stream.write(block)
                    done += len(block)
            async with losses(self._silence_s):
                await process.wait_closed()
            await _status(process)
            if done != size:
                raise TransferError(f"{Path(remote).name} ended too early")
        finally:
            process.close()


async def _status(process: asyncssh.SSHClientProcess[bytes]) -> None:
    """Raise what a program said when it failed."""
    if process.returncode:
        async with losses(5.0):
            said = (await process.stderr.read(2000)).decode("utf-8", "replace").strip()
        raise TransferError(said.splitlines()[-1] if said else f"status {process.returncode}")
    if process.returncode is None:
        raise LostError("the connection was lost")


async def open_files(link: Link, silence_s: float, marker: str) -> tuple[Files, bool]:
    """Choose the way: SFTP where the board has it and it sees the same files as the shell.

    Parameters
    ----------
    link : Link
    silence_s : float
    marker : str
        A file that is there.

    Returns
    -------
    files : Files
    sftp : bool
        Whether it is SFTP.
    """
    try:
        async with asyncio.timeout(silence_s):
            client = await link.ssh.start_sftp_client()
            if await client.exists(marker):
                return Sftp(client, silence_s), True
            client.exit()
    except LOST:
        if not link.open:
            raise LostError("the connection was lost") from None
    except (TimeoutError, asyncssh.Error, OSError):
        pass
    return Cat(link, silence_s), False


@functools.lru_cache(maxsize=4096)
def _digest(file: Path, _size: int, _changed_ns: int) -> str:
    return file_digest(file)


def known_digest(file: Path) -> str:
    """SHA-256 of a file; read once as long as it does not change."""
    found = file.stat()
    return _digest(file.resolve(), found.st_size, found.st_mtime_ns)
