"""Which host a target's URL means, and how it is named in messages."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from edgecompress.errors import RecipeError
from edgecompress.targets.ssh.fields import SshFields


@dataclass(frozen=True, slots=True)
class Address:
    """User, host and port of a board; None where ~/.ssh/config or the default decides."""

    host: str
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        """As ssh itself takes it."""
        host = f"[{self.host}]" if ":" in self.host and self.port else self.host
        return f"{self.user + '@' if self.user else ''}{host}{f':{self.port}' if self.port else ''}"


def named(spec: SshFields, host: object) -> str:
    """Name a board in a message: the fleet's name and the host, or the URL where it is the name."""
    return spec.name if spec.name == spec.url else f"{spec.name}: {host}"


def parse_address(url: str) -> Address:
    """Read ``ssh://user@host:port``.

    Raises
    ------
    RecipeError
        When it is no such URL, or has more in it than that.
    """
    try:
        found = urlsplit(url)
        port = found.port
    except ValueError as error:
        raise RecipeError(f"{url}: {error}; write ssh://user@host:port") from None
    host = unquote(found.hostname or "")
    # urlsplit lowers the host's case, but the aliases of ~/.ssh/config have one
    at = found.netloc.lower().rfind(host) if host else -1
    if at >= 0:
        host = found.netloc[at : at + len(host)]
    if found.scheme != "ssh" or not host or host.startswith("-") or any(map(str.isspace, host)):
        raise RecipeError(f"{url}: no host is named; write ssh://user@host:port")
    if found.password is not None:
        shown = url.replace(f":{found.password}@", "@")
        raise RecipeError(
            f"{shown}: a password has no place in a URL; use a key, which `ssh-copy-id` installs"
        )
    if found.path.strip("/") or found.query or found.fragment:
        raise RecipeError(
            f"{url}: a URL ends with the host and port; name the folder there as `cache`"
        )
    return Address(host, unquote(found.username) if found.username else None, port)
