"""Looking after bundles: verify, show, pack and unpack them, with the standard library alone."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from edgecompress.api.arguments import Place
from edgecompress.api.bundled import (
    BundleSummary,
    PackedBundle,
    UnpackedBundle,
    VerifiedBundle,
)
from edgecompress.api.signing import verify_with_key
from edgecompress.bundle.directory import load_manifest
from edgecompress.bundle.packing import is_core, opened
from edgecompress.bundle.packing import pack_bundle as pack_directory
from edgecompress.bundle.packing import unpack_bundle as unpack_archive

if TYPE_CHECKING:
    pass


def verify_bundle(
    bundle: Place, *, core_only: bool = False, key: Place | None = None
) -> VerifiedBundle:
    """Compare every byte of `bundle`, a directory or a .tar.zst, with its digests.

    Parameters
    ----------
    bundle : path
        Directory or archive.
    core_only : bool
        Leave the evidence out; it may be missing.
    key : path, optional
        Public key: check the signatures as well.

    Raises
    ------
    BundleError
        Naming the file that was changed, added or lost.
    """
    with opened(Path(bundle)) as directory:
        # An archive of the core alone is whole; in a directory the evidence may have been lost.
        core_only = core_only or (directory != Path(bundle) and is_core(directory))
        manifest = verify_with_key(directory, key, evidence=not core_only)
    signed = key is not None
    return VerifiedBundle(str(bundle), manifest, bool(manifest.evidence) and not core_only, signed)


def show_bundle(bundle: Place) -> BundleSummary:
    """Say what `bundle`, a directory or a .tar.zst, holds: task, labels, size, steps, versions.

    The digests of a directory are not checked.

    Parameters
    ----------
    bundle : path
        Directory or archive.

    Raises
    ------
    BundleError
        When it is no bundle.
    """
    with opened(Path(bundle)) as directory:
        return BundleSummary.of(directory, load_manifest(directory))


def pack_bundle(bundle: Place, output: Place | None = None, *, core: bool = False) -> PackedBundle:
    """Verify the directory `bundle` and write it as one file, NAME.tar.zst.

    Equal bundles give equal files. `tar --zstd -xf` reads them, too.

    Parameters
    ----------
    bundle : path
        Its directory.
    output : path, optional
        File to write.
    core : bool
        Leave the evidence out: what a device needs.

    Raises
    ------
    BundleError
        When the bundle is damaged.
    """
    written = pack_directory(Path(bundle), Path(output) if output else None, core=core)
    return PackedBundle(written, written.stat().st_size, core)


def unpack_bundle(
    file: Place, output: Place | None = None, *, max_size: float = 4.0, key: Place | None = None
) -> UnpackedBundle:
    """Unpack the archive `file`, verify it and put it into place, whole or not at all.

    Parameters
    ----------
    file : path
        Archive to unpack.
    output : path, optional
        Directory to make.
    max_size : float
        Refuse an archive that holds more gigabytes.
    key : path, optional
        Public key: refuse a bundle that was not signed with it, before anything of it is used.

    Raises
    ------
    BundleError
        When the archive is damaged, too large or not signed.
    """
    check = None if key is None else functools.partial(verify_with_key, key=key)
    place = Path(output) if output else None
    made = unpack_archive(Path(file), place, most_bytes=int(max_size * 1e9), check=check)
    return UnpackedBundle(made, is_core(made), key is not None)
