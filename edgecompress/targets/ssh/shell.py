"""What a board says of itself to a plain shell, before anything of ours runs there."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from edgecompress.errors import TargetError
from edgecompress.targets.ssh.address import named
from edgecompress.targets.ssh.connection import Link, LostError, run_quietly
from edgecompress.targets.ssh.fields import SshFields

CACHE = "~/.cache/edgecompress"
DEFAULT_PYTHON = "python3"
_SIGN = "edgecompress:"
_SCRIPT = """{{
say() {{ printf '{sign}%s=%s\\n' "$1" "$2"; }}
say home "$HOME"
say machine "$(uname -m)"
say bits "$(getconf LONG_BIT 2>/dev/null)"
say libc "$(getconf GNU_LIBC_VERSION 2>/dev/null || ldd --version 2>&1 | head -n 1)"
say kernel "$(uname -r)"
read boot 2>/dev/null </proc/sys/kernel/random/boot_id && say boot "$boot"
home() {{ case $1 in '~/'*) p="$HOME/${{1#'~/'}}";; /*) p=$1;; *) p=$2$1;; esac; }}
home {cache} "$HOME/"; cache=$p
say cache "$cache"
for one in {pythons}; do
    case $one in
    PREPARED) p="$cache/venv/bin/python"
        [ -O "$cache" ] || continue  # nothing is run from a folder that others can write
        case $(ls -ldL "$cache") in d????-??-*) ;; *) continue;; esac
        # Nor one that was made from another Python than is named.
        [ -z {named} ] || [ "$(cat "$cache/venv/base" 2>/dev/null)" = {named} ] || continue;;
    */*) home "$one" "$HOME/";;
    *) p=$one;;
    esac
    if version=$("$p" -V 2>&1); then say python "$p"; say version "$version"; break; fi
done
}} </dev/null
"""


@dataclass(frozen=True, slots=True)
class ShellFacts:
    """A board's answers; empty where it could not say.

    Attributes
    ----------
    home, cache : str
        The user's home folder and our cache folder there, absolute.
    machine, bits, libc, kernel : str
        ``uname -m``, the word size of its userland, ``glibc 2.36``, and ``uname -r``.
    boot : str
        Changes whenever it is started.
    python : str
        The Python that is used there; empty when there is none.
    version : tuple of int
        That Python's, such as (3, 11, 2).
    """

    home: str
    cache: str
    machine: str
    bits: str
    libc: str
    kernel: str
    boot: str
    python: str
    version: tuple[int, ...]


async def ask_shell(link: Link, spec: SshFields) -> ShellFacts:
    """Ask a board what it is.

    Raises
    ------
    LostError
    TargetError
        When it has no shell.
    """
    pythons = ["PREPARED", spec.python or DEFAULT_PYTHON]
    script = _SCRIPT.format(
        sign=_SIGN,
        named=shlex.quote(spec.python or ""),
        cache=shlex.quote(spec.cache or CACHE),
        pythons=" ".join(shlex.quote(one) for one in pythons),
    )
    status, said, errors = await run_quietly(
        link, "sh", stdin=script.encode(), silence_s=spec.idle_timeout_s
    )
    found = {}
    for line in said.decode("utf-8", "replace").splitlines():
        if line.startswith(_SIGN):
            key, _, value = line[len(_SIGN) :].partition("=")
            found[key] = value.strip()
    if not found.get("home", "").startswith("/") or "machine" not in found:
        last = errors.decode("utf-8", "replace").strip().splitlines()[-1:] or [f"status {status}"]
        raise TargetError(
            f"{named(spec, link.host)} gives no usable shell ({last[0][:200]}); "
            f"try it with: ssh {link.host} sh -c true"
        )
    version = re.search(r"Python (\d+(?:\.\d+)*)", found.get("version", ""))
    return ShellFacts(
        home=found["home"],
        cache=found["cache"],
        machine=found["machine"],
        bits=found.get("bits", ""),
        libc=found.get("libc", ""),
        kernel=found.get("kernel", ""),
        boot=found.get("boot", ""),
        python=found.get("python", "") if version else "",
        version=tuple(int(part) for part in version[1].split(".")) if version else (),
    )


async def boot_id(link: Link, silence_s: float) -> str:
    """Give what changes whenever the board is started; empty where it has none."""
    command = "cat /proc/sys/kernel/random/boot_id"
    try:
        return (await run_quietly(link, command, silence_s=silence_s))[1].decode().strip()
    except (LostError, UnicodeDecodeError):
        return ""
