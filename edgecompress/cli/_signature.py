"""``edgecompress bundle sign``, and what ``bundle verify --key`` does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecompress.cli._output import say
from edgecompress.errors import DataError

if TYPE_CHECKING:
    from edgecompress.bundle.manifest import Manifest

_LONGEST_PASSWORD = 4096


@click.command(name="sign")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--key",
    required=True,
    type=click.Path(path_type=Path),
    help="Private Ed25519 key: PEM (openssl genpkey -algorithm ed25519) or OpenSSH's.",
)
@click.option(
    "--password-file",
    type=click.Path(path_type=Path),
    help="File whose first line is the password of an encrypted key.",
)
def sign(directory: Path, key: Path, password_file: Path | None) -> None:
    """Sign DIRECTORY: verify it, then write signatures beside its lists of digests.

    Signatures are no part of the lists, so a bundle that is signed, or signed again, is the same
    bundle. `edgecompress bundle verify --key PUBLIC DIRECTORY` checks them.
    """
    from edgecompress.bundle.signature import read_private_key, sign_bundle

    password = None if password_file is None else _password(password_file)
    written = sign_bundle(directory, read_private_key(key, password))
    say(f"{directory}: signed ({', '.join(written)})")


def verify_with_key(directory: Path, key: Path, *, evidence: bool) -> Manifest:
    """Verify a bundle and its signatures; see `edgecompress.bundle.signature.verify_signed`."""
    from edgecompress.bundle.signature import read_public_key, verify_signed

    return verify_signed(directory, read_public_key(key), evidence=evidence)


def _password(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:  # a pipe, too: who keeps secrets writes into one
            first = stream.readline(_LONGEST_PASSWORD).rstrip(b"\r\n")
    except OSError as error:
        raise DataError(
            f"the password cannot be read ({error.strerror or error})", file=file
        ) from None
    if not first:
        raise DataError("the first line is empty; the password must stand there", file=file)
    return first
