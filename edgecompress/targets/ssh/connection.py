"""One SSH connection to a board: opened after ~/.ssh/config, checked, and its failures in words."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from edgecompress.errors import MissingExtraError, TargetError

try:
    import asyncssh
except ImportError:
    raise MissingExtraError("asyncssh") from None

from edgecompress.reading import at_home
from edgecompress.targets.ssh.address import Address, named, parse_address
from edgecompress.targets.ssh.fields import SshFields
from edgecompress.targets.ssh.hostkeys import HostKeyRecorder, KnownHosts, read_known_hosts, refusal

JUMPS = 8
"""Longest chain of ProxyJump; a longer one jumps in a circle."""
AGAIN = "the same command goes on from there"
LOST = (asyncssh.DisconnectError, asyncssh.ChannelOpenError, asyncssh.SFTPConnectionLost,
        asyncssh.SFTPNoConnection, BrokenPipeError, ConnectionError)  # fmt: skip
"""What asyncssh raises when a connection that was open is gone."""


class LostError(Exception):
    """The connection is gone, or the board no longer answers on it; the text says which."""


@dataclass(frozen=True, slots=True)
class Link:
    """An open connection.

    Attributes
    ----------
    ssh : asyncssh.SSHClientConnection
    hops : tuple of asyncssh.SSHClientConnection
        The connections to the hosts that it jumps over, nearest first.
    host : str
        The board as messages name it: user, host and port as they are after ~/.ssh/config.
    """

    ssh: asyncssh.SSHClientConnection
    hops: tuple[asyncssh.SSHClientConnection, ...]
    host: str

    @property
    def open(self) -> bool:
        """Whether it can still be used, as far as this side knows."""
        return not self.ssh.is_closed()

    async def close(self) -> None:
        """End it and those that it jumps over; never waits long."""
        for connection in (self.ssh, *reversed(self.hops)):
            connection.close()
            try:
                async with asyncio.timeout(3):
                    await connection.wait_closed()
            except (TimeoutError, OSError, asyncssh.Error):
                connection.abort()


async def connect(spec: SshFields) -> Link:
    """Open a connection to the board of `spec`.

    Raises
    ------
    TargetError
        In one sentence: the host, what failed and what to do.
    """
    address = parse_address(spec.url)
    if spec.key is not None and not at_home(spec.key).is_file():
        raise TargetError(f"{spec.name}: the key {spec.key} is missing; correct `key`")
    hops: list[asyncssh.SSHClientConnection] = []
    try:
        found = await _open(spec, address, hops, depth=0)
    except BaseException:
        for hop in hops:
            hop.abort()
        raise
    return Link(found, tuple(hops), str(_shown(address, found)))


def _shown(address: Address, ssh: asyncssh.SSHClientConnection) -> Address:
    port = int(ssh.get_extra_info("port") or 22)
    return Address(address.host, ssh.get_extra_info("username"), None if port == 22 else port)


def _options(spec: SshFields, address: Address) -> dict[str, Any]:
    """Give the arguments that are the same for a board and the hosts before it."""
    interval = min(15.0, spec.idle_timeout_s / 4)
    return {
        "username": address.user or (),
        "port": address.port or (),
        "connect_timeout": spec.connect_timeout_s,
        "login_timeout": spec.connect_timeout_s,
        "keepalive_interval": interval,
        "keepalive_count_max": max(1, int(spec.idle_timeout_s / interval) - 1),
        "ignore_encrypted": True,  # the agent may hold those that need a passphrase
        "password_auth": False,
        "kbdint_auth": False,
        "agent_forwarding": False,
        "request_pty": False,
        "command": None,
    }


async def _connect(host: str, **options: Any) -> asyncssh.SSHClientConnection:
    """Connect; once more where the line broke first, before the reason for that could be read.

    A server that refuses and closes at once can take back what it said a moment before.
    """
    try:
        return await asyncssh.connect(host, **options)
    except asyncssh.ConnectionLost:
        return await asyncssh.connect(host, **options)


async def _open(
    spec: SshFields, address: Address, hops: list[asyncssh.SSHClientConnection], depth: int
) -> asyncssh.SSHClientConnection:
    if depth > JUMPS:
        raise TargetError(f"{spec.name}: ProxyJump in ~/.ssh/config goes in a circle")
    common = _options(spec, address)
    jumping = depth > 0
    if spec.key is not None and not jumping:
        common["client_keys"] = [str(at_home(spec.key))]
    where = named(spec, address)
    try:
        planned = await asyncssh.SSHClientConnectionOptions.construct(
            host=address.host,
            config=(),  # the person's own
            **common,
        )
        config = planned.config
        known = read_known_hosts(
            spec.known_hosts,
            config.get("UserKnownHostsFile", ()),
            config.get("GlobalKnownHostsFile", ()),
        )
    except (OSError, ValueError, asyncssh.Error) as error:
        raise TargetError(f"{where}: its settings cannot be read: {error}") from None
    tunnel = None
    for hop in _hops(planned.tunnel):
        tunnel = await _open(spec, hop, hops, depth + 1)
        hops.append(tunnel)
    recorder = HostKeyRecorder()
    host, port = str(planned.host), int(planned.port)
    alias = planned.host_key_alias
    direct = tunnel is None and planned.proxy_command is None
    try:
        return await _connect(
            address.host,
            tunnel=tunnel,
            known_hosts=known.entries,
            client_factory=lambda: recorder,
            **common,
        )
    except asyncssh.HostKeyNotVerifiable as error:
        if recorder.key is None and "revoked" not in str(error):
            raise TargetError(f"{where}: {error}") from None
        said = _refused(known, recorder, host, port, alias, direct)
    except asyncssh.KeyExchangeFailed as error:
        if "host key" not in str(error):
            raise TargetError(
                f"{where}: no common way to encrypt ({error}); update the system of the board"
            ) from None
        said = _refused(known, recorder, host, port, alias, direct)
    except asyncssh.PermissionDenied:
        keys = "the key was" if spec.key is not None else "none of your keys was"
        if spec.key is not None and not planned.client_keys:
            keys = f"{spec.key} needs a passphrase (load it with ssh-add), and no other key was"
        port_option = "" if port == 22 else f"-p {port} "
        said = (
            f"{keys} accepted for the user {planned.username}; install one with: "
            f"ssh-copy-id {port_option}{planned.username}@{host}"
        )
    except TimeoutError:
        said = (
            f"no answer within {spec.connect_timeout_s:g} s; is the board on and in the network? "
            "(`connect_timeout_s` sets how long to wait)"
        )
    except socket.gaierror:
        said = f"the host name {host} is not known; correct it or name it in ~/.ssh/config"
    except ConnectionRefusedError:
        said = f"nothing listens on port {port}; is its SSH server enabled?"
    except OSError as error:
        said = f"it cannot be reached ({error.strerror or error}); is the board in the network?"
    except (asyncssh.Error, ValueError) as error:
        said = f"the SSH connection failed ({_line(error)}); try it with: ssh {address.host}"
    raise TargetError(f"{where}: {said}")


def _refused(
    known: KnownHosts,
    recorder: HostKeyRecorder,
    host: str,
    port: int,
    alias: str | None,
    direct: bool,
) -> str:
    return refusal(
        known, recorder.key, host=host, peer=recorder.peer, port=port, alias=alias, direct=direct
    )


def _hops(tunnel: object) -> list[Address]:
    """Read ``ProxyJump``: ``[user@]host[:port]``, separated by commas."""
    if not isinstance(tunnel, str) or tunnel.lower() == "none":
        return []
    return [
        parse_address(f"ssh://{hop.strip().removeprefix('ssh://')}") for hop in tunnel.split(",")
    ]


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextlib.asynccontextmanager
async def losses(silence_s: float | None = None) -> AsyncIterator[None]:
    """Turn what a gone connection raises into `LostError`, and too long a silence too."""
    try:
        async with asyncio.timeout(silence_s):
            yield
    except TimeoutError:
        silence = "too long" if silence_s is None else f"{silence_s:g} s"
        raise LostError(f"the board said nothing for {silence}") from None
    except LOST as error:
        plain = isinstance(error, OSError | asyncssh.ConnectionLost) and "keepalive" not in str(
            error
        )
        detail = f" ({_line(error)})" if not plain else ""
        raise LostError(f"the connection was lost{detail}") from None


async def run_quietly(link: Link, command: str, *, stdin: bytes = b"", silence_s: float) -> tuple[
    int, bytes, bytes
]:  # fmt: skip
    """Run a short command and give its exit status, standard output and standard error.

    Raises
    ------
    LostError
        When the connection is lost or there is no end within `silence_s`.
    """
    async with losses(silence_s):
        done = await link.ssh.run(command, input=stdin, encoding=None)
    if done.returncode is None:
        raise LostError("the connection was lost")
    said = [out if isinstance(out, bytes) else b"" for out in (done.stdout, done.stderr)]
    return int(done.returncode), said[0], said[1]
