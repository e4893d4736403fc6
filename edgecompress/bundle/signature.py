"""Says who made a bundle: Ed25519 signatures beside its lists; the extra ``sign``.

A signature is the 64 bytes of Ed25519 and nothing else, so that OpenSSL alone can check it::

    core.sha256.sig        over core.sha256
    evidence.sha256.sig    over core.sha256 followed by evidence.sha256

The second holds the first list too: evidence signed for one core cannot stand beside another. The
lists hold the digests of all files, so a signature over them is one over everything.

Keys are files: PEM as ``openssl genpkey -algorithm ed25519`` writes them, or OpenSSH's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecompress.bundle.digests import CORE_LIST, CORE_SIGNATURE, EVIDENCE_LIST, EVIDENCE_SIGNATURE
from edgecompress.bundle.directory import verify_bundle
from edgecompress.bundle.manifest import Manifest
from edgecompress.errors import BundleError, DataError, MissingExtraError
from edgecompress.writing import put, writing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

MAKE_KEY = "openssl genpkey -algorithm ed25519 -out key.pem"
MAKE_PUBLIC = "openssl pkey -in key.pem -pubout -out public.pem"
_LARGEST_KEY = 65_536  # bytes; an Ed25519 key has a few hundred, the largest RSA keys 13,000


def sign_bundle(directory: Path, key: Ed25519PrivateKey) -> tuple[str, ...]:
    """Verify a bundle and write its signatures; those that are there are replaced.

    Parameters
    ----------
    directory : Path
        The bundle, with its evidence if it was written with one.
    key : Ed25519PrivateKey
        From `read_private_key`.

    Returns
    -------
    tuple of str
        Names of the files written.

    Raises
    ------
    BundleError
        When the bundle is damaged, or the signatures cannot be written.
    """
    manifest = verify_bundle(directory)
    try:
        signed = {CORE_SIGNATURE: key.sign(_core(directory))}
        if manifest.evidence:
            signed[EVIDENCE_SIGNATURE] = key.sign(_core(directory) + _evidence(directory))
        # Made beside the bundle: a file more in it, should we be killed, would damage it.
        with writing(directory.resolve()) as aside:
            for name, signature in signed.items():
                (aside / name).write_bytes(signature)
                put(aside / name, directory / name)
    except OSError as error:
        raise BundleError(
            f"{error.filename or directory}: the signature cannot be written ({error.strerror})"
        ) from None
    return tuple(signed)


def verify_signed(directory: Path, key: Ed25519PublicKey, *, evidence: bool = True) -> Manifest:
    """Prove that a bundle is whole and that the holder of the private key signed it.

    Parameters
    ----------
    directory : Path
    key : Ed25519PublicKey
        From `read_public_key`.
    evidence : bool
        As in `verify_bundle`: False looks at the core and its signature alone.

    Raises
    ------
    BundleError
        When a file was changed, a signature is missing, or it does not fit list and key.
    """
    manifest = verify_bundle(directory, evidence=evidence)
    try:
        core = _core(directory)
        _check(directory, CORE_SIGNATURE, core, key)
        if evidence and manifest.evidence:
            _check(directory, EVIDENCE_SIGNATURE, core + _evidence(directory), key)
    except OSError as error:
        place = error.filename or directory
        raise BundleError(f"{place}: cannot be read ({error.strerror or error})") from None
    return manifest


def read_private_key(file: Path, password: bytes | None = None) -> Ed25519PrivateKey:
    """Read a private key, PEM or OpenSSH's.

    Parameters
    ----------
    file : Path
    password : bytes, optional
        What the key is encrypted with.

    Raises
    ------
    DataError
        When the file is no private Ed25519 key, or the password is missing or wrong.
    MissingExtraError
        When cryptography is not installed.
    """
    serialization, ed25519 = _library()
    text = _read(file)
    if b"PUBLIC KEY" in text or text.startswith((b"ssh-", b"ecdsa-")):
        raise DataError("is a public key; signing needs the private one", file=file)
    load = (
        serialization.load_ssh_private_key
        if b"OPENSSH PRIVATE KEY" in text
        else serialization.load_pem_private_key
    )
    try:
        key = load(text, password)
    except TypeError:  # cryptography's word for a password too many or too few
        raise DataError(
            "is encrypted; give its password with --password-file"
            if password is None
            else "is not encrypted; leave --password-file out",
            file=file,
        ) from None
    except Exception:  # noqa: BLE001 - which errors OpenSSL's readers raise is not fixed
        raise _unreadable(file, "private", password is not None) from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise _other_kind(file, key)
    return key


def read_public_key(file: Path) -> Ed25519PublicKey:
    """Read a public key, PEM or OpenSSH's.

    Raises
    ------
    DataError
        When the file is no public Ed25519 key.
    MissingExtraError
        When cryptography is not installed.
    """
    serialization, ed25519 = _library()
    text = _read(file)
    if b"PRIVATE KEY" in text:
        raise DataError(
            f"is a private key; verifying needs the public one: {MAKE_PUBLIC}", file=file
        )
    load = (
        serialization.load_ssh_public_key
        if text.startswith((b"ssh-", b"ecdsa-", b"sk-"))
        else serialization.load_pem_public_key
    )
    try:
        key = load(text)
    except Exception:  # noqa: BLE001 - which errors OpenSSL's readers raise is not fixed
        raise _unreadable(file, "public") from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise _other_kind(file, key)
    return key


def _core(directory: Path) -> bytes:
    return (directory / CORE_LIST).read_bytes()


def _evidence(directory: Path) -> bytes:
    return (directory / EVIDENCE_LIST).read_bytes()


def _check(directory: Path, name: str, signed: bytes, key: Ed25519PublicKey) -> None:
    from cryptography.exceptions import InvalidSignature

    file = directory / name
    try:
        signature = file.read_bytes()
    except FileNotFoundError:
        raise BundleError(
            f"{file}: missing; the bundle is not signed, or not all of it: sign it with "
            "`edgecompress bundle sign`"
        ) from None
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        raise BundleError(
            f"{file}: was not made with this key over these lists; another key signed the bundle, "
            "or a list or the signature was changed afterwards"
        ) from None


def _library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ModuleNotFoundError:
        raise MissingExtraError("cryptography", "sign") from None
    return serialization, ed25519


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(_LARGEST_KEY).lstrip()
    except OSError as error:
        raise DataError(f"the key cannot be read ({error.strerror or error})", file=file) from None


def _unreadable(file: Path, kind: str, password: bool = False) -> DataError:
    if password:
        return DataError("cannot be read; is the password the right one?", file=file)
    return DataError(f"no {kind} key in PEM or OpenSSH's form; make a key: {MAKE_KEY}", file=file)


def _other_kind(file: Path, key: object) -> DataError:
    kind = type(key).__name__.removesuffix("PrivateKey").removesuffix("PublicKey").lstrip("_")
    return DataError(f"is of kind {kind}; it must be Ed25519: {MAKE_KEY}", file=file)
