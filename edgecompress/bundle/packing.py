"""One file of a bundle, and a bundle of one file: ``NAME.tar.zst``.

The tar archive is the only one that these files have (`tarball`), below the folder
``bundle/``, in one zstandard frame with a digest behind it (`zstdframe`). Equal
bundles give equal archives, as far as the same version of zstandard packs them.

Unpacking trusts nothing: sizes, counts and names are limited before a file is written, all is
verified aside, and put into place whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from edgecompress.bundle.digests import bundle_files, is_evidence
from edgecompress.bundle.directory import move_into_place, verify_bundle
from edgecompress.bundle.names import Names
from edgecompress.bundle.tarball import file_pieces, read_tar, whole_size, write_tar
from edgecompress.bundle.zstdframe import MAGIC, Frame, import_zstandard, write_frame
from edgecompress.errors import BundleError, EdgeCompressError
from edgecompress.reading import at_home
from edgecompress.writing import put, temporary, writing

SUFFIX = ".tar.zst"
FOLDER = "bundle/"
MOST_BYTES = 4 * 10**9


def pack_bundle(directory: Path, output: Path | None = None, *, core: bool = False) -> Path:
    """Verify a bundle and write it as one archive.

    Parameters
    ----------
    directory : Path
    output : Path, optional
        The file to write; else the directory's name with ``.tar.zst`` (``-core.tar.zst``) beside
        it. An archive that is there is replaced, whole or not at all.
    core : bool
        Leave the evidence out: what a device needs, and the same bytes when it is made again.

    Returns
    -------
    Path
        The archive.

    Raises
    ------
    BundleError
        When the bundle is damaged, or the archive cannot be written.
    MissingExtraError
        When zstandard is not installed.
    """
    place = directory.resolve()
    output = output or place.with_name(f"{place.name}{'-core' if core else ''}{SUFFIX}")
    instead = f"pack it yourself with: tar --zstd -cf {output} -C {place.parent} {place.name}"
    zstandard = import_zstandard(instead)
    if output.resolve().is_relative_to(place):
        raise BundleError(f"{output}: lies in the bundle itself; name another -o")
    verify_bundle(directory, evidence=not core)
    names = sorted(bundle_files(directory))
    if core:
        names = [name for name in names if not is_evidence(name)]
    try:
        _check_replaced(output)
        sizes = {FOLDER + name: (place / name).stat().st_size for name in names}
        with writing(output) as aside, (aside / "made").open("xb") as stream:
            tar = write_tar(sizes, lambda name: file_pieces(place / name.removeprefix(FOLDER)))
            write_frame(zstandard, tar, whole_size(sizes), stream)
            stream.flush()
            os.fsync(stream.fileno())
            put(aside / "made", output)
    except OSError as error:
        where = error.filename or output
        raise BundleError(
            f"{output}: cannot be written ({where}: {error.strerror or error})"
        ) from None
    return output


def unpack_bundle(
    archive: Path,
    directory: Path | None = None,
    *,
    most_bytes: int = MOST_BYTES,
    check: Callable[..., object] | None = None,
) -> Path:
    """Unpack an archive, verify what it holds and put it into place; give the directory.

    Parameters
    ----------
    archive : Path
    directory : Path, optional
        Where the bundle goes; else the archive's name without ``.tar.zst``, beside it. A bundle
        that is there is replaced; anything else is an error.
    most_bytes : int
        An archive that holds more is refused before anything is written.
    check : callable, optional
        Verifies what was unpacked before it is put into place, with the arguments of
        `verify_bundle`, which it replaces: to look at signatures as well.

    Raises
    ------
    BundleError
        When the archive is damaged, too large, not as `pack_bundle` writes it, or not a bundle;
        nothing is left behind then.
    MissingExtraError
        When zstandard is not installed.
    """
    directory = directory or _named_after(archive)
    directory = at_home(directory).absolute()
    if not archive.is_file():
        what = "is no file" if archive.exists() else "no such file"
        raise BundleError(f"{archive}: {what}; give an archive that `bundle pack` made")
    try:
        with writing(directory) as aside:
            made = aside / "bundle"
            made.mkdir()
            _unpack(archive, made, most_bytes, check or verify_bundle)
            move_into_place(made, directory)
    except OSError as error:
        where = error.filename or directory
        raise BundleError(
            f"{archive}: cannot be unpacked to {directory} ({where}: {error.strerror or error})"
        ) from None
    return directory


@contextlib.contextmanager
def opened(bundle: Path) -> Iterator[Path]:
    """Give a bundle's directory; that of an archive is unpacked for the while and verified.

    Raises
    ------
    BundleError, MissingExtraError
        As `unpack_bundle`.
    """
    if bundle.is_dir() or not bundle.exists():
        yield bundle
        return
    with temporary() as folder:
        made = folder / "bundle"
        unpack_bundle(bundle, made)
        try:
            yield made
        except EdgeCompressError as error:
            if str(made) in str(error):
                error.args = (_of_archive(error, bundle, made),)
            raise


def is_core(directory: Path) -> bool:
    """Whether a bundle came without its evidence, as ``pack --core`` makes it."""
    return not any(is_evidence(name) for name in bundle_files(directory))


def _unpack(archive: Path, made: Path, most_bytes: int, check: Callable[..., object]) -> None:
    try:
        with archive.open("rb") as stream:
            _write_files(Frame(archive, stream, made, most_bytes), made)
        check(made, evidence=not is_core(made))
    except BundleError as error:
        raise BundleError(_of_archive(error, archive, made)) from None


def _of_archive(error: EdgeCompressError, archive: Path, made: Path) -> str:
    """Say an error of what was unpacked, which is gone in a moment, of the archive."""
    text = str(error).replace(f"{made}/", "").replace(str(made), "")
    return text if text.startswith(str(archive)) else f"{archive}: {text.removeprefix(': ')}"


def _write_files(frame: Frame, made: Path) -> None:
    names = Names()
    for name, _, content in read_tar(frame.read, frame.total):
        inside = name.removeprefix(FOLDER)
        if inside == name:
            raise BundleError(f"holds {name[:200]!r}, which does not lie below {FOLDER}")
        try:
            names.add(inside)
        except ValueError as error:
            raise BundleError(f"holds a wrong name: {error}") from None
        file = made / inside
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("xb") as stream:
            for piece in content:
                stream.write(piece)
    frame.end()


def _named_after(archive: Path) -> Path:
    if not archive.name.endswith(SUFFIX) or archive.name == SUFFIX:
        raise BundleError(f"{archive}: does not end in {SUFFIX}; name the directory with -o")
    return archive.with_name(archive.name.removesuffix(SUFFIX))


def _check_replaced(output: Path) -> None:
    if not (output.is_symlink() or output.exists()):
        return
    if output.is_symlink() or not output.is_file():
        raise BundleError(f"{output}: exists and is no archive; name another -o")
    with output.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise BundleError(f"{output}: exists and is no archive; name another -o")
