"""A connected board: its RPC server, its files, and what goes wrong there put into one sentence."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecompress.errors import TargetError
from edgecompress.targets.base import Progress
from edgecompress.targets.ssh.address import named
from edgecompress.targets.ssh.connection import Link
from edgecompress.targets.ssh.fields import SshFields
from edgecompress.targets.ssh.rpc_client import BoardError, RpcClient
from edgecompress.targets.ssh.shell import ShellFacts
from edgecompress.targets.ssh.transfer import Files, TransferError, known_digest, open_files

MB = 1_000_000
SPARE_BYTES = 20 * MB
"""What is left free on a board's disk beside the files that are sent."""


@dataclass(slots=True)
class Board:
    """What is open between this host and a board, for as long as the connection lasts."""

    spec: SshFields
    link: Link
    shell: ShellFacts
    client: RpcClient
    sftp: bool = False
    _files: Files | None = None
    _entering: asyncio.Lock = field(default_factory=asyncio.Lock)
    _facts: dict[str, Any] | None = None

    @property
    def where(self) -> str:
        """The board, for messages."""
        return named(self.spec, self.link.host)

    @property
    def open(self) -> bool:
        """Whether it can still be used, as far as this side knows."""
        return self.link.open and not self.client.ended

    async def ask(self, what: str, **arguments: Any) -> Any:
        """Ask the RPC server.

        Raises
        ------
        LostError
        TargetError
            When it cannot do it.
        """
        try:
            return await self.client.ask(what, **arguments)
        except BoardError as error:
            raise self.failed(error) from None

    def failed(self, error: BoardError) -> TargetError:
        """Put what the RPC server could not do into one sentence."""
        cache = self.shell.cache
        if error.number in (errno.ENOSPC, errno.EDQUOT):
            return self.full()
        if error.number in (errno.EROFS, errno.EACCES, errno.EPERM):
            return TargetError(
                f"{self.where}: {cache} cannot be written ({os.strerror(error.number)}); name a "
                "folder of this user as `cache`"
            )
        return TargetError(f"{self.where}: {error}")

    def full(self, wanted: int = 0, free: int | None = None) -> TargetError:
        """Say that the board's disk is full."""
        need = "nothing more can be written"
        if wanted:
            need = f"{math.ceil(wanted / MB)} MB are needed"
        room = "" if free is None else f" and {max(0, free) / MB:.0f} MB are free"
        return TargetError(
            f"{self.where}: the disk with {self.shell.cache} is full: {need}{room}; free some "
            f"space (edgecompress targets clean {self.spec.name} removes what was carried there), "
            "then the same command goes on from there"
        )

    async def facts(self) -> dict[str, Any]:
        """Describe the board, once per connection."""
        if self._facts is None:
            self._facts = await self.ask("facts")
        return self._facts

    async def files(self) -> Files:
        """Enter the cache folder, once per connection; give the way to move bytes."""
        async with self._entering:
            if self._files is None:
                await self.ask("enter", cache=self.shell.cache)
                marker = f"{self.shell.cache}/.edgecompress"
                self._files, self.sftp = await open_files(
                    self.link, self.spec.idle_timeout_s, marker
                )
            return self._files

    async def put(self, file: Path, said: Progress | None = None) -> tuple[str, str, str]:
        """Have a file on the board, by its content; go on where an earlier try ended.

        Returns
        -------
        path, digest, name : str
            Where it is there, and what it is called.

        Raises
        ------
        LostError
        TargetError
            When the board cannot store it.
        """
        files = await self.files()
        digest = await asyncio.to_thread(known_digest, file)
        size, name = file.stat().st_size, file.name
        for _ in range(3):
            state = await self.ask("state", digest=digest, name=name, size=size)
            if state["whole"]:
                return state["path"], digest, name
            left = size - state["sent"]
            if state["free"] < left + SPARE_BYTES:
                raise self.full(left + SPARE_BYTES, state["free"])

            def tell(done: int) -> None:
                if said is not None:
                    said(done / MB, size / MB, f"sending {name}")

            await self._send(files, file, state["part"], state["sent"], tell)
            if (await self.ask("finish", digest=digest, name=name))["right"]:
                return state["path"], digest, name
        raise TargetError(
            f"{self.where}: {name} arrived damaged three times; check the board's memory card"
        )

    async def _send(
        self, files: Files, local: Path, remote: str, offset: int, tell: Callable[[int], None]
    ) -> None:
        try:
            await files.append(local, remote, offset, tell)
        except TransferError as error:
            free = (await self.ask("look", cache=self.shell.cache))["free"]
            if free < SPARE_BYTES or "space" in str(error).lower():
                raise self.full(local.stat().st_size - offset, free) from None
            raise TargetError(
                f"{self.where}: {local.name} could not be stored in {self.shell.cache} ({error})"
            ) from None

    async def gather(self, files: Sequence[Path], said: Progress | None = None) -> str:
        """Have `files` on the board in one folder, placed as they are here; give the first's path.

        Raises
        ------
        LostError
        TargetError
        """
        base = files[0].parent
        entries = []
        for file in files:
            if not file.is_relative_to(base) or ".." in file.relative_to(base).parts:
                raise TargetError(
                    f"{self.where}: {file} lies outside the folder of {files[0].name}; save the "
                    "model with its external data beside it"
                )
            _, digest, name = await self.put(file, said)
            entries.append([file.relative_to(base).as_posix(), digest, name])
        digest = hashlib.sha256(json.dumps(entries).encode()).hexdigest()
        folder = await self.ask("link", digest=digest, files=entries)
        return f"{folder}/{entries[0][0]}"

    async def send_into(self, folder: str, files: Sequence[Path]) -> None:
        """Send the small files of a job."""
        way = await self.files()
        for file in files:
            await self._send(way, file, f"{folder}/{file.name}", 0, lambda _: None)

    async def fetch_from(self, folder: str, local: Path, known: Sequence[str]) -> None:
        """Bring what a job wrote, all but the files that are known, into the folder `local`."""
        way = await self.files()
        for name, size in (await self.ask("files", path=folder)).items():
            if name in known:
                continue
            aside = local / f".{name}.part"
            try:
                await way.fetch(f"{folder}/{name}", aside, size)
            except TransferError as error:
                raise TargetError(f"{self.where}: {name} could not be read ({error})") from None
            aside.replace(local / name)

    async def close(self) -> None:
        """End the RPC server and the connection."""
        await self.client.close()
        await self.link.close()
