"""Whether a host is the one that it says: known_hosts, and what to tell when it is not.

Checking is never turned off, not even by ``UserKnownHostsFile none`` in ~/.ssh/config.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from edgecompress.reading import at_home

DEFAULT = Path("~/.ssh/known_hosts")
SYSTEM = Path("/etc/ssh/ssh_known_hosts")


@dataclass(frozen=True, slots=True)
class KnownHosts:
    """The keys of known hosts.

    Attributes
    ----------
    entries : asyncssh.SSHKnownHosts
    file : Path
        Where a new host belongs.
    """

    entries: asyncssh.SSHKnownHosts
    file: Path


def read_known_hosts(
    named: Path | None, configured: Sequence[str], system: Sequence[str]
) -> KnownHosts:
    """Read the keys of known hosts; files that are not there hold none.

    Parameters
    ----------
    named : Path or None
        The target's own file.
    configured, system : sequence of str
        ``UserKnownHostsFile`` and ``GlobalKnownHostsFile`` of ~/.ssh/config.

    Raises
    ------
    OSError, ValueError
        When a file cannot be read.
    """
    if named is not None:
        files = [named]
    else:
        files = [Path(name) for name in configured if name != "none"] or [DEFAULT]
        files += [Path(name) for name in system] or [SYSTEM]
    entries = asyncssh.import_known_hosts("")
    for file in files:
        if at_home(file).is_file():
            entries.load(at_home(file).read_text(encoding="utf-8"))
    return KnownHosts(entries, files[0])


class HostKeyRecorder(asyncssh.SSHClient):
    """Remembers the key that an unknown or changed host showed, and refuses it."""

    def __init__(self) -> None:
        self.key: asyncssh.SSHKey | None = None
        self.peer: str = ""

    def validate_host_public_key(
        self,
        host: str,  # noqa: ARG002 - the interface's
        addr: str,
        port: int,  # noqa: ARG002
        key: asyncssh.SSHKey,
    ) -> bool:
        """Refuse every key that is not in known_hosts."""
        self.key, self.peer = key, addr
        return False


def refusal(
    known: KnownHosts,
    key: asyncssh.SSHKey | None,
    *,
    host: str,
    peer: str,
    port: int,
    alias: str | None,
    direct: bool,
) -> str:
    """Say why the key of a host is not accepted, and the line that would accept it.

    Parameters
    ----------
    known : KnownHosts
    key : asyncssh.SSHKey or None
        What the host showed; None when it was never seen.
    host, peer : str
        Its name after ~/.ssh/config, and its address as far as it is known.
    port : int
    alias : str or None
        ``HostKeyAlias``.
    direct : bool
        Whether ssh-keyscan can reach it: no other host is jumped over.
    """
    name = alias or host
    entry = name if port == 22 else f"[{name}]:{port}"
    file = shlex.quote(str(known.file))
    if str(known.file).startswith("~/"):  # the shell is to expand it
        file = "~/" + shlex.quote(str(known.file)[2:])
    shown = "a key of another kind" if key is None else f"{_kind(key)} {key.get_fingerprint()}"
    keys: list[asyncssh.SSHKey] = []
    for one in (name, peer) if peer else (name,):
        # Written so, the port's own entries are found, and not those of port 22.
        entries = known.entries.match(one if port == 22 else f"[{one}]:{port}", "", None)
        keys += [found for found in entries[0] if found not in keys]
        if key is not None and key in entries[2]:
            return f"the key that it shows, {shown}, is marked as revoked in {known.file}"
    if keys:
        old = ", ".join(f"{_kind(one)} {one.get_fingerprint()}" for one in keys)
        return (
            f"THE HOST KEY HAS CHANGED: it shows {shown}, but {known.file} has {old}; another "
            "machine may be answering in its place, so nothing was sent; only if you know why it "
            f"changed, run: ssh-keygen -f {file} -R {shlex.quote(entry)}"
        )
    if key is None:
        return "it shows no key of a kind that can be checked"
    if direct and alias is None:
        place = "" if port == 22 else f"-p {port} "
        line = f"ssh-keyscan {place}-t {_kind(key)} {shlex.quote(host)} >> {file}"
    else:
        public = key.export_public_key().decode().split()
        line = f"echo {shlex.quote(' '.join((entry, *public[:2])))} >> {file}"
    return (
        f"the host is not known; compare its fingerprint, {shown}, with the board's own "
        f"(ssh-keygen -lf /etc/ssh/ssh_host_{_kind(key)}_key.pub there), then run: {line}"
    )


def _kind(key: asyncssh.SSHKey) -> str:
    """Give the key's kind as ssh-keyscan names it."""
    name = key.get_algorithm()
    for part, kind in (("ed25519", "ed25519"), ("ecdsa", "ecdsa"), ("rsa", "rsa")):
        if part in name:
            return kind
    return name
