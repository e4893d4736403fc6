"""Signing a bundle, and checking who signed it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgecompress.api.shown import Section, Shown
from edgecompress.errors import DataError

if TYPE_CHECKING:
    from edgecompress.api.arguments import StrPath
    from edgecompress.bundle.manifest import Manifest

LONGEST_PASSWORD = 4096


@dataclass(frozen=True, slots=True, repr=False)
class SignedBundle(Shown):
    """A bundle that was signed, and the files of its signatures."""

    directory: Path
    files: tuple[str, ...]

    def sections(self) -> Iterator[Section]:
        """Name the files."""
        yield Section("", notes=(f"{self.directory}: signed ({', '.join(self.files)})",))


def verify_with_key(directory: Path, key: StrPath | None, *, evidence: bool) -> Manifest:
    """Verify a bundle's directory and, with a public key, its signatures."""
    if key is None:
        from edgecompress.bundle import verify_bundle

        return verify_bundle(directory, evidence=evidence)
    from edgecompress.bundle.signature import read_public_key, verify_signed

    return verify_signed(directory, read_public_key(Path(key)), evidence=evidence)


def sign_bundle(
    directory: StrPath, *, key: StrPath, password_file: StrPath | None = None
) -> SignedBundle:
    """Sign `directory`: verify it, then write signatures beside its lists of digests.

    Signatures are no part of the lists, so a bundle that is signed, or signed again, is the same
    bundle. `edgecompress bundle verify --key PUBLIC DIRECTORY` checks them.

    Parameters
    ----------
    directory : path
        The bundle's directory.
    key : path
        Private Ed25519 key: PEM (openssl genpkey -algorithm ed25519) or OpenSSH's.
    password_file : path, optional
        File whose first line is the password of an encrypted key.

    Raises
    ------
    BundleError, DataError
        When the bundle is damaged, or the key or the password cannot be read.
    """
    from edgecompress.bundle.signature import read_private_key
    from edgecompress.bundle.signature import sign_bundle as sign_directory

    password = None if password_file is None else _password(Path(password_file))
    written = sign_directory(Path(directory), read_private_key(Path(key), password))
    return SignedBundle(Path(directory), tuple(written))


def _password(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:  # a pipe, too: who keeps secrets writes into one
            first = stream.readline(LONGEST_PASSWORD).rstrip(b"\r\n")
    except OSError as error:
        raise DataError(
            f"the password cannot be read ({error.strerror or error})", file=file
        ) from None
    if not first:
        raise DataError("the first line is empty; the password must stand there", file=file)
    return first
