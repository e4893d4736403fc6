"""Boards for tests: this machine behind a real sshd on loopback, or behind a server of asyncssh.

Both have a home folder, keys and a cache folder of their own, and are ended whatever happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import asyncssh
import psutil
import pytest

from edgecompress.targets.kinds.ssh import SshSpec

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SFTP_SERVER = Path("/usr/lib/openssh/sftp-server")


@dataclass
class Server:
    """A server that stands for a board.

    `folder` holds everything; `home` is what the board calls its home, `spec` reaches it.
    """

    folder: Path
    port: int
    user: str
    process: psutil.Popen | None = None
    start: Callable[[], None] = lambda: None
    stop: Callable[[], None] = lambda: None

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def spec(self, **fields: Any) -> SshSpec:
        """A specification that reaches it with this Python, key and known host."""
        known = {
            "name": "board",
            "url": f"ssh://{self.user}@127.0.0.1:{self.port}",
            "python": sys.executable,
            "cache": str(self.cache),
            "key": self.folder / "user_key",
            "known_hosts": self.folder / "known_hosts",
            "connect_timeout_s": 20.0,
            "idle_timeout_s": 60.0,
        }
        return SshSpec(**(known | fields))

    def sessions(self) -> list[psutil.Process]:
        """The processes of sshd that serve a connection."""
        assert self.process is not None
        found = self.process.children(recursive=True)
        return [one for one in found if _name(one).startswith("sshd")]

    def ours(self) -> list[psutil.Process]:
        """Processes of ours that run on the board: RPC servers and agents."""
        found = []
        for one in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                environment = one.environ()
                if environment.get("EDGECOMPRESS_TEST_BOARD") == str(self.folder):
                    command = " ".join(one.cmdline())
                    if "python" in command and one.pid != os.getpid():
                        found.append(one)
        return found

    def agents(self) -> list[psutil.Process]:
        """Running agents."""
        found = []
        for one in self.ours():
            with contextlib.suppress(psutil.Error):
                if any(word.endswith(".pyz") for word in one.cmdline()):
                    found.append(one)
        return found

    def litter(self) -> list[str]:
        """What lies on the board that should not: job folders, and anything beside the cache."""
        jobs = self.cache / "jobs"
        found = [str(path) for path in jobs.iterdir()] if jobs.is_dir() else []
        return found + [str(path) for path in self.home.rglob("*")]

    def wait_until_quiet(self, seconds: float = 60.0) -> None:
        """Wait until no process of ours runs there; fail when one stays."""
        end = time.monotonic() + seconds
        while left := self.ours():
            assert time.monotonic() < end, [one.cmdline() for one in left if one.is_running()]
            time.sleep(0.05)


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return process.name()
    return ""


def write_keys(folder: Path, port: int) -> None:
    """Write a host key, a user key, `authorized_keys` and `known_hosts` into `folder`."""
    for name in ("host_key", "user_key"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(folder / name)
        (folder / name).chmod(0o600)
        key.write_public_key(folder / f"{name}.pub")
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    public = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def sshd(
    folder: Path,
    *further: str,
    path: str = "/usr/local/bin:/usr/bin:/bin",
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Server]:
    """Run a real sshd on a high port of loopback.

    `further` are lines of its configuration; `path` and `environment` are what a session sees.
    """
    if SSHD is None or not SFTP_SERVER.exists():
        pytest.skip("needs the Debian package openssh-server")
    folder.mkdir(parents=True, exist_ok=True)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it drops its rights
    port = free_port()
    write_keys(folder, port)
    server = Server(folder, port, getpass.getuser())
    server.home.mkdir()
    seen = {"HOME": server.home, "PATH": path, "EDGECOMPRESS_TEST_BOARD": folder, **environment}
    settings = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder / 'host_key'}",
        f"AuthorizedKeysFile {folder / 'authorized_keys'}",
        f"PidFile {folder / 'sshd.pid'}",
        "PermitRootLogin prohibit-password",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "StrictModes no",
        "UsePAM no",
        "PrintMotd no",
        "MaxStartups 100",
        f"Subsystem sftp {SFTP_SERVER}",
        *further,
        "SetEnv " + " ".join(f"{key}={value}" for key, value in seen.items()),
    ]
    (folder / "sshd_config").write_text("\n".join(settings) + "\n")
    server.start = lambda: _start(server)
    server.stop = lambda: _stop(server)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        for one in server.ours():
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


def _start(server: Server) -> None:
    assert SSHD is not None
    log = server.folder / "sshd.log"
    with log.open("ab") as stream:
        command = [SSHD, "-D", "-e", "-f", str(server.folder / "sshd_config")]
        server.process = psutil.Popen(command, stderr=stream, stdin=subprocess.DEVNULL)
    _await_port(server.port, server.process, log)


def _stop(server: Server) -> None:
    """Kill the server and what it started for its connections, but no process of ours."""
    if server.process is None:
        return
    for one in (*server.sessions(), server.process):
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    server.process.wait()
    server.process = None


def _await_port(port: int, running: psutil.Popen, log: Path) -> None:
    end = time.monotonic() + 30
    while True:
        assert running.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.02)


class _Accepting(asyncssh.SSHServer):
    """Takes the user's key only."""

    def begin_auth(self, username: str) -> bool:
        return True


async def _pump(source: Any, sink: Any, end: bool = False) -> None:
    """Copy bytes until `source` ends or either side is gone; then end `sink` if asked."""
    with contextlib.suppress(OSError, asyncssh.Error):
        while block := await source.read(65536):
            sink.write(block)
            await sink.drain()
    if end:
        with contextlib.suppress(OSError):
            sink.close()


class LightServer(Server):
    """A server of asyncssh in this process; its programs run on this machine.

    `held` may be cleared to let it fall silent, `connections` are the open ones.
    """

    loop: asyncio.AbstractEventLoop
    connections: list[asyncssh.SSHServerConnection]

    def drop(self) -> None:
        """Cut all connections."""
        for one in list(self.connections):
            self.loop.call_soon_threadsafe(one.abort)


@contextlib.contextmanager
def light_server(
    folder: Path,
    *,
    sftp: Any = True,
    before: Callable[[str], None] | None = None,
    limit: str = "",
) -> Iterator[LightServer]:
    """Run a server of asyncssh in a thread.

    Parameters
    ----------
    folder : Path
    sftp : bool or class
        What serves SFTP; False for none.
    before : callable, optional
        Is told each command before it runs, and may block the whole server.
    limit : str
        Shell words before each command, such as a `ulimit`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    write_keys(folder, port)
    server = LightServer(folder, port, getpass.getuser())
    server.home.mkdir()
    server.connections = []
    server.loop = asyncio.new_event_loop()

    async def run(process: asyncssh.SSHServerProcess[bytes]) -> None:
        command = process.command or ""
        if before is not None:
            before(command)
        environment = {**os.environ, "HOME": str(server.home)}
        environment["EDGECOMPRESS_TEST_BOARD"] = str(folder)
        child = await asyncio.create_subprocess_shell(
            limit + command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        pumps = [
            asyncio.create_task(_pump(child.stdout, process.stdout)),
            asyncio.create_task(_pump(child.stderr, process.stderr)),
        ]
        feeding = asyncio.create_task(_pump(process.stdin, child.stdin, end=True))
        status = await child.wait()
        await asyncio.gather(*pumps)
        feeding.cancel()
        if status < 0:
            process.exit_with_signal({9: "KILL"}.get(-status, "TERM"))
        else:
            process.exit(status)

    class Remembering(_Accepting):
        def connection_made(self, connection: asyncssh.SSHServerConnection) -> None:
            server.connections.append(connection)

    async def start() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            port,
            server_factory=Remembering,
            server_host_keys=[str(folder / "host_key")],
            authorized_client_keys=str(folder / "authorized_keys"),
            process_factory=run,
            sftp_factory=sftp,
            encoding=None,
        )

    async def end(acceptor: asyncssh.SSHAcceptor) -> None:
        acceptor.close()
        for one in server.connections:
            one.abort()
        await acceptor.wait_closed()
        await asyncio.sleep(0.1)
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    thread = threading.Thread(target=server.loop.run_forever, daemon=True)
    thread.start()
    acceptor = asyncio.run_coroutine_threadsafe(start(), server.loop).result(30)
    try:
        yield server
    finally:
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(end(acceptor), server.loop).result(30)
        server.loop.call_soon_threadsafe(server.loop.stop)
        thread.join(10)
        server.loop.close()
        for one in server.ours():
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
