"""A board over SSH as a target: keeps its connection, and says what became of a lost one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from edgecompress.errors import TargetError
from edgecompress.targets.base import Job, Progress, Readings
from edgecompress.targets.machine import fingerprint_of
from edgecompress.targets.running import run_job
from edgecompress.targets.ssh.address import named, parse_address
from edgecompress.targets.ssh.board import Board
from edgecompress.targets.ssh.connection import AGAIN, LostError, connect
from edgecompress.targets.ssh.fields import SshFields
from edgecompress.targets.ssh.launch import run_on_board
from edgecompress.targets.ssh.loop import wait_for
from edgecompress.targets.ssh.rpc_client import BoardError, RpcClient
from edgecompress.targets.ssh.shell import ask_shell, boot_id
from edgecompress.values import Json

T = TypeVar("T")
OLDEST_PYTHON = (3, 9)
"""The RPC server and the agent's `describe` run on it."""


async def open_board(spec: SshFields) -> Board:
    """Connect to a board and start its RPC server; nothing is written there yet.

    Raises
    ------
    LostError
    TargetError
    """
    link = await connect(spec)
    try:
        found = await ask_shell(link, spec)
        where = named(spec, link.host)
        if not found.python:
            raise TargetError(
                f"{where}: {spec.python} is no Python there; correct `python`"
                if spec.python
                else f"{where}: there is no python3; install it there: sudo apt install python3"
            )
        if found.version < OLDEST_PYTHON:
            version = ".".join(map(str, found.version))
            raise TargetError(
                f"{where}: its Python {version} is too old; install a newer one and name it as "
                "`python`"
            )
        try:
            client = await RpcClient.start(link, found.python, spec.idle_timeout_s)
        except BoardError as error:
            raise TargetError(f"{where}: {error}") from None
    except BaseException:
        await link.close()
        raise
    return Board(spec, link, found, client)


class Ssh:
    """A board over SSH.

    Parameters
    ----------
    spec : SshFields
        Nothing is connected to before the first use.

    Raises
    ------
    RecipeError
        When the URL is no ``ssh://user@host:port``.
    """

    def __init__(self, spec: SshFields) -> None:
        parse_address(spec.url)
        self.spec = spec
        self.name = spec.name
        self.samples = spec.samples
        self.metrics = frozenset({"latency", "memory", "answers", "energy"})
        self.on_host = False
        self._board: Board | None = None
        self._opening = asyncio.Lock()
        self._last: Json | None = None

    def __repr__(self) -> str:
        """Name and URL."""
        return f"Ssh({self.name!r}, {self.spec.url!r})"

    @property
    def emulated(self) -> bool:
        """Whether an emulator behind the connection gives the instruction set."""
        return bool((self._last or self.describe())["emulated"])

    def describe(self) -> Json:
        """Describe the board; asked once per connection.

        Raises
        ------
        TargetError
        """

        async def work(board: Board) -> Json:
            return dict((await board.facts())["described"])

        self._last = wait_for(self._with_board("describing it", work))
        return self._last

    def fingerprint(self) -> str:
        """Digest of what its readings depend on: machine, features, cores, library versions."""
        return fingerprint_of(self.describe())

    def run(self, job: Job, folder: Path, progress: Progress | None = None) -> Readings:
        """Run `job` on the board; several threads may do so for different boards.

        Raises
        ------
        TargetError
            When the board cannot be reached, lacks what the agent needs, or the agent fails or
            falls silent.
        """
        self._require_libraries()
        return run_job(job, folder, self, progress)

    def _require_libraries(self) -> None:
        libraries = self.describe()["libraries"]
        missing = [name for name in ("onnxruntime", "numpy") if name not in libraries]
        if missing:
            raise TargetError(
                f"{self.name}: its Python has no {' and no '.join(missing)}; run: "
                f"edgecompress targets prepare {self.name}"
            )

    def carry(self, files: tuple[Path, ...], progress: Progress | None = None) -> str:
        """Have `files` on the board, side by side; give the path of the first there.

        Raises
        ------
        TargetError
        """
        return wait_for(
            self._with_board(f"sending {files[0].name}", lambda b: b.gather(files, progress))
        )

    def launch(self, folder: Path, job: Job, progress: Progress | None) -> None:
        """Run the agent on `folder` in one fresh process there.

        Raises
        ------
        TargetError
        """
        doing = {"time": "timing", "answers": "answering"}.get(job.mode, "measuring")
        wait_for(self._with_board(doing, lambda b: run_on_board(b, folder, job, progress)))

    def close(self) -> None:
        """End the connection; a later job opens it again."""
        if self._board is not None:
            wait_for(self._close())

    def clean(self) -> int:
        """Remove the cache folder from the board, and give the bytes that it took.

        Raises
        ------
        TargetError
            When it was not made by us, or a job of another connection runs there.
        """

        async def work(board: Board) -> int:
            return int((await board.ask("clean", cache=board.shell.cache))["removed"])

        try:
            return wait_for(self._with_board("cleaning", work))
        finally:
            self.close()

    def use(self, doing: str, work: Callable[[Board], Awaitable[T]]) -> T:
        """Do something with the connected board; for `prepare` and `check`.

        Parameters
        ----------
        doing : str
            What is done, for the message when the connection is lost meanwhile.
        work : callable

        Raises
        ------
        TargetError
        """
        return wait_for(self._with_board(doing, work))

    async def _with_board(self, doing: str, work: Callable[[Board], Awaitable[T]]) -> T:
        board: Board | None = None
        try:
            board = await self._connected()
            return await work(board)
        except LostError as error:
            if board is None:
                raise TargetError(f"{self.name}: {error} while connecting; {AGAIN}") from None
            await self._close()
            fate = await self._fate(board)
            raise TargetError(f"{board.where}: {error} while {doing}{fate}; {AGAIN}") from None

    async def _connected(self) -> Board:
        """Give the open board; open it when it is not, or was lost."""
        async with self._opening:
            if self._board is not None and not self._board.open:
                await self._close()
            if self._board is None:
                self._board = await open_board(self.spec)
            return self._board

    async def _close(self) -> None:
        board, self._board = self._board, None
        if board is not None:
            await board.close()

    async def _fate(self, board: Board) -> str:
        """Say what became of a board whose connection was lost: one quick look, no waiting."""
        try:
            link = await connect(self.spec)
        except TargetError:
            return ", and it cannot be reached now"
        try:
            boot = await boot_id(link, self.spec.connect_timeout_s)
        finally:
            await link.close()
        if boot and board.shell.boot and boot != board.shell.boot:
            return ": the board was rebooted"
        return ", though it can be reached now"
