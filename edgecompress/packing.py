"""One file of a bundle, and a bundle of one file: ``NAME.tar.zst``.

The tar archive is the only one that these files have (`edgecompress.tarball`), below the folder
``bundle/``; its compression is one zstandard frame of level 10, made on one thread, with the size
of what it holds and a checksum; behind it stands a skippable frame, which readers of zstandard pass
over, with the SHA-256 of the first, because some bits of a frame do not change what it holds. Equal
bundles give equal archives, as far as the same version of zstandard packs them.

Unpacking trusts nothing: sizes, counts and names are limited before a file is written, all is
verified aside, and put into place whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from edgecompress.bundle import (
    bundle_files,
    is_evidence,
    move_into_place,
    verify_bundle,
)
from edgecompress.errors import BundleError, MissingExtraError
from edgecompress.names import Names
from edgecompress.tarball import read_tar, whole_size, write_tar

SUFFIX = ".tar.zst"
FOLDER = "bundle/"
LEVEL = 10
"""Of 22: beyond it weights get hardly smaller, and unpacking needs more memory on a board."""
MAGIC = bytes.fromhex("28b52ffd")
TRAILER = bytes.fromhex("5e2a4d18") + (32).to_bytes(4, "little")
"""RFC 8878, 3.1.2: the start of a skippable frame of 32 bytes."""
TRAILER_BYTES = len(TRAILER) + 32

MOST_BYTES = 4 * 10**9
MOST_WINDOW = 64 << 20  # bytes that unpacking keeps in memory; level 10 wants 4 MiB
MOST_RATIO = 300
FREE_RATIO_BYTES = 64 << 20
"""Below this size any ratio is taken: a report or a small table of equal weights packs well."""

_PIECE = 1 << 20
_FED = 1 << 10  # so many bytes of a bomb become at most 32 MiB: a block is 128 KiB for 4 bytes
_DESCRIPTOR, _CHECKSUM, _REFUSED = 4, 0x04, 0x1B  # RFC 8878, 3.1.1.1.1: the last are reserved


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
    zstandard = _zstandard(instead)
    if output.resolve().is_relative_to(place):
        raise BundleError(f"{output}: lies in the bundle itself; name another -o")
    verify_bundle(directory, evidence=not core)
    names = sorted(bundle_files(directory))
    if core:
        names = [name for name in names if not is_evidence(name)]
    try:
        _check_replaced(output)
        sizes = {FOLDER + name: (place / name).stat().st_size for name in names}
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=output.parent, prefix=f".{output.name}.", delete=False
        ) as stream:
            try:
                _compress(zstandard, place, sizes, stream)
                stream.flush()
                os.fsync(stream.fileno())
                Path(stream.name).chmod(0o644)
                Path(stream.name).replace(output)
            except BaseException:
                Path(stream.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        where = error.filename or output
        raise BundleError(
            f"{output}: cannot be written ({where}: {error.strerror or error})"
        ) from None
    return output


def unpack_bundle(
    archive: Path, directory: Path | None = None, *, most_bytes: int = MOST_BYTES
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

    Raises
    ------
    BundleError
        When the archive is damaged, too large, not as `pack_bundle` writes it, or not a bundle;
        nothing is left behind then.
    MissingExtraError
        When zstandard is not installed.
    """
    directory = directory or _named_after(archive)
    directory = directory.expanduser().absolute()
    if not archive.is_file():
        what = "is no file" if archive.exists() else "no such file"
        raise BundleError(f"{archive}: {what}; give an archive that `bundle pack` made")
    there = next(folder for folder in directory.parents if folder.exists())
    try:
        with tempfile.TemporaryDirectory(
            prefix=f".{directory.name}-", dir=there, ignore_cleanup_errors=True
        ) as aside:
            made = Path(aside) / "bundle"
            made.mkdir()
            _unpack(archive, made, most_bytes)
            directory.parent.mkdir(parents=True, exist_ok=True)
            move_into_place(made, directory, Path(aside) / "replaced")
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
    with tempfile.TemporaryDirectory(prefix="edgecompress-") as folder:
        unpack_bundle(bundle, Path(folder) / "bundle")
        yield Path(folder) / "bundle"


def is_core(directory: Path) -> bool:
    """Whether a bundle came without its evidence, as ``pack --core`` makes it."""
    return not any(is_evidence(name) for name in bundle_files(directory))


def _compress(zstandard: Any, place: Path, sizes: Mapping[str, int], stream: Any) -> None:
    total = whole_size(sizes)
    compressor = zstandard.ZstdCompressor(
        level=LEVEL, write_checksum=True, write_content_size=True, write_dict_id=False, threads=0
    ).compressobj(size=total)

    def content(name: str) -> Iterator[bytes]:
        with (place / name.removeprefix(FOLDER)).open("rb") as file:
            while piece := file.read(_PIECE):
                yield piece

    digest = hashlib.sha256()
    for piece in write_tar(sizes, content):
        packed = compressor.compress(piece)
        digest.update(packed)
        stream.write(packed)
    packed = compressor.flush()
    digest.update(packed)
    stream.write(packed + TRAILER + digest.digest())


def _unpack(archive: Path, made: Path, most_bytes: int) -> None:
    try:
        with archive.open("rb") as stream:
            _write_files(_Frame(archive, stream, made, most_bytes), made)
        verify_bundle(made, evidence=not is_core(made))
    except BundleError as error:
        # What was unpacked is gone in a moment: the person knows the archive only.
        text = str(error).replace(f"{made}/", "").replace(str(made), "")
        named = text if text.startswith(str(archive)) else f"{archive}: {text.removeprefix(': ')}"
        raise BundleError(named) from None


def _write_files(frame: _Frame, made: Path) -> None:
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


class _Frame:
    """The one frame of an archive: `total` bytes that `read` gives, and nothing behind it."""

    def __init__(self, archive: Path, stream: BinaryIO, place: Path, most_bytes: int) -> None:
        self._zstandard = _zstandard(f"unpack it with: tar --zstd -xf {archive}")
        self._stream = stream
        self._packed = _checked_trailer(stream)
        head = self._take(18)  # the longest header of a frame
        self.total = self._checked(head, most_bytes)
        free = shutil.disk_usage(place).free
        if self.total > free:
            raise BundleError(f"holds {_mb(self.total)}, and {_mb(free)} are free; make room")
        self._decoder = self._zstandard.ZstdDecompressor(
            max_window_size=MOST_WINDOW
        ).decompressobj()
        self._found, self._left = bytearray(), self.total
        self._fed = head

    def _take(self, count: int) -> bytes:
        return self._stream.read(min(count, self._packed - self._stream.tell()))

    def _checked(self, head: bytes, most_bytes: int) -> int:
        try:
            facts = self._zstandard.get_frame_parameters(head)
        except self._zstandard.ZstdError as error:
            raise BundleError(f"has a damaged frame header ({error})") from None
        descriptor = head[_DESCRIPTOR]
        if descriptor & _REFUSED or not descriptor & _CHECKSUM:
            raise BundleError("has a frame without checksum, or one that wants a dictionary")
        total = int(facts.content_size)
        if total >= self._zstandard.CONTENTSIZE_ERROR:  # this or the next: unknown
            raise BundleError("does not say how much it holds; pack it with `bundle pack`")
        if total > most_bytes:
            raise BundleError(f"holds {_mb(total)}, more than the {_mb(most_bytes)} that are taken")
        if total > max(FREE_RATIO_BYTES, MOST_RATIO * self._packed):
            times = total // self._packed
            raise BundleError(f"holds {times} times its own size, which no bundle does")
        if facts.window_size > MOST_WINDOW:
            raise BundleError(f"wants {_mb(facts.window_size)} of memory to be unpacked")
        return total

    def read(self, count: int) -> bytes:
        """Give exactly `count` bytes."""
        while len(self._found) < count:
            if not self._fed:
                raise BundleError("is cut off; copy it again")
            self._feed()
        piece = bytes(self._found[:count])
        del self._found[:count]
        return piece

    def end(self) -> None:
        """Prove that the frame ends here, checksum included, and that the file does, too."""
        while self._fed and not self._decoder.eof:
            self._feed()
        if not self._decoder.eof:
            raise BundleError("is cut off; copy it again")
        if self._left or self._found or self._decoder.unused_data or self._fed:
            raise BundleError("holds something behind its end; copy it again")

    def _feed(self) -> None:
        if self._decoder.eof:
            raise BundleError("holds less than it says; copy it again")
        try:
            piece = self._decoder.decompress(self._fed)
        except self._zstandard.ZstdError as error:
            raise BundleError(f"is damaged ({error}); copy it again") from None
        self._left -= len(piece)
        if self._left < 0:
            raise BundleError("holds more than it says; it is damaged or made to fill a disk")
        self._found += piece
        self._fed = self._take(_FED)


def _checked_trailer(stream: BinaryIO) -> int:
    """Compare an archive with the digest at its end; give the bytes before it, and go back."""
    if stream.read(len(MAGIC)) != MAGIC:
        raise BundleError(f"is no {SUFFIX} archive; give one that `bundle pack` made")
    packed = stream.seek(0, os.SEEK_END) - TRAILER_BYTES
    if packed <= len(MAGIC):
        raise BundleError("is cut off; copy it again")
    stream.seek(packed)
    trailer = stream.read()
    stream.seek(0)
    if not trailer.startswith(TRAILER):
        raise BundleError("is cut off, or has something behind its end; copy it again")
    digest, left = hashlib.sha256(), packed
    while left and (piece := stream.read(min(left, _PIECE))):
        digest.update(piece)
        left -= len(piece)
    if digest.digest() != trailer[len(TRAILER) :]:
        raise BundleError("is damaged: it differs from the digest at its end; copy it again")
    stream.seek(0)
    return packed


def _zstandard(instead: str) -> Any:
    try:
        import zstandard
    except ImportError:
        raise MissingExtraError("zstandard", "pack", instead) from None
    return zstandard


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


def _mb(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
