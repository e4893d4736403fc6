"""The lists of digests: which files a bundle has, and the one text that each list may have."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from edgecompress.bundle.names import MOST_FILES, MOST_NAME_BYTES, Names
from edgecompress.errors import BundleError
from edgecompress.reading import read_bytes
from edgecompress.values import file_digest
from edgecompress.words import did_you_mean

CORE_LIST = "core.sha256"
EVIDENCE_LIST = "evidence.sha256"
EVIDENCE = "evidence"
CORE_SIGNATURE = f"{CORE_LIST}.sig"
EVIDENCE_SIGNATURE = f"{EVIDENCE_LIST}.sig"
SIGNATURES = (CORE_SIGNATURE, EVIDENCE_SIGNATURE)
SIGNATURE_BYTES = 64  # of Ed25519
_LIST_BYTES = MOST_FILES * (64 + 2 + MOST_NAME_BYTES + 1)


def listed_files(directory: Path) -> list[str]:
    """Give the files of a bundle, lists included and signatures not, sorted.

    Raises
    ------
    BundleError
        When something is no plain file or has a name that some system confuses.
    """
    return sorted(_without_signatures(directory, _well_named(directory)))


def bundle_files(directory: Path, prefix: str = "") -> Iterator[str]:
    """Give every file below `directory` as a POSIX path; a link or a device is an error."""
    if not prefix and not directory.is_dir():
        raise no_directory(directory)
    with os.scandir(directory / prefix) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            if len(name) > MOST_NAME_BYTES:
                raise BundleError(f"{directory}: the file name {name[:100]!r}… is too long")
            if entry.is_dir(follow_symlinks=False):
                yield from bundle_files(directory, f"{name}/")
            elif not entry.is_file(follow_symlinks=False):
                raise BundleError(
                    f"{directory / name}: is a link or a special file; a bundle holds plain files"
                )
            else:
                yield name


def _without_signatures(directory: Path, names: Iterable[str]) -> Iterator[str]:
    """Leave signatures out: they are made over the lists, so no list can hold them."""
    for name in names:
        if name not in SIGNATURES:
            yield name
        elif (directory / name).stat().st_size != SIGNATURE_BYTES:
            raise BundleError(
                f"{directory / name}: no signature, which has {SIGNATURE_BYTES} bytes; sign the "
                "bundle again or remove the file"
            )


def core_digest(directory: Path) -> str:
    """SHA-256 of a bundle's ``core.sha256``, which names every byte of its core.

    The one digest that says which core it is, wherever one is shown.

    Raises
    ------
    OSError
        When the list cannot be read.
    """
    return hashlib.sha256(read_bytes(directory / CORE_LIST, _LIST_BYTES)).hexdigest()


def check_place(directory: Path, manifest: str) -> None:
    """Find out whether the folder around a bundle was named instead of the bundle.

    Parameters
    ----------
    directory : Path
    manifest : str
        Name of the file that every bundle has.

    Raises
    ------
    BundleError
        Naming the bundle that lies in it, or saying that a run left none.
    """
    if (directory / manifest).exists():
        return
    if (directory / "bundle" / manifest).is_file():
        meant = directory / "bundle"
        raise BundleError(f"{directory}: holds a bundle and is none; did you mean {meant}?")
    if (directory / "results.json").is_file():
        raise BundleError(
            f"{directory}: is a run's directory in which no candidate was chosen, so that there is "
            "no bundle; its report says why"
        )


def no_directory(directory: Path) -> BundleError:
    """Give the error for a place that is no directory."""
    if directory.exists():
        hint = "unpack an archive with `edgecompress bundle unpack`"
        return BundleError(f"{directory}: is a file, not a bundle's directory; {hint}")
    try:
        beside = {one.name for one in directory.parent.iterdir() if (one / CORE_LIST).is_file()}
    except OSError:
        beside = set()
    return BundleError(f"{directory}: no such directory{did_you_mean(directory.name, beside)}")


def _well_named(directory: Path) -> Iterator[str]:
    """Give the files of a bundle, whose names no system must confuse."""
    names = Names()
    for name in bundle_files(directory):
        try:
            names.add(name)
        except ValueError as error:
            raise BundleError(f"{directory}: {error}") from None
        yield name


def is_evidence(name: str) -> bool:
    """Whether a file of a bundle is no part of its core."""
    return name in (EVIDENCE_LIST, EVIDENCE_SIGNATURE) or name.startswith(f"{EVIDENCE}/")


def list_text(directory: Path, names: list[str]) -> bytes:
    """Give the lines of `sha256sum` for `names`."""
    return list_lines({name: file_digest(directory / name) for name in names})


def list_lines(digests: Mapping[str, str]) -> bytes:
    """Give the lines of `sha256sum` for digests by name, in their order."""
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()


def check_list(directory: Path, list_name: str, names: list[str]) -> None:
    """Compare a list with the files that it must name, byte by byte.

    Raises
    ------
    BundleError
        Naming the first file that was changed, added or lost, or the list itself.
    """
    file = directory / list_name
    try:
        found = read_bytes(file, _LIST_BYTES)
    except FileNotFoundError:
        hint = "is this a whole bundle? Copy it again"
        if list_name == EVIDENCE_LIST:
            hint = "copy the evidence again, or verify the core alone (--core-only)"
        raise BundleError(f"{file}: missing; {hint}") from None
    expected = list_text(directory, names)
    if found == expected:
        return
    recorded, actual = _parse_list(found), _parse_list(expected)
    for name in sorted(recorded.keys() | actual.keys()):
        if name not in recorded:
            raise BundleError(f"{directory / name}: was added; {list_name} does not list it")
        if name not in actual:
            raise BundleError(f"{directory / name}: missing; {list_name} lists it")
        if recorded[name] != actual[name]:
            raise BundleError(
                f"{directory / name}: differs from its digest in {list_name}; copy the bundle again"
            )
    raise BundleError(f"{file}: the list itself was changed; copy the bundle again")


def _parse_list(text: bytes) -> dict[str, str]:
    lines = text.decode("utf-8", "backslashreplace").split("\n")
    pairs = (line.partition("  ") for line in lines if line)
    return {name: digest for digest, _, name in pairs}
