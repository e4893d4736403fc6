"""The compression of an archive: one zstandard frame, and behind it the digest of that frame.

The frame (RFC 8878) says how much it holds and has a checksum; the digest stands in a skippable
frame, which readers of zstandard pass over. It is there because some bits of a frame do not change
what it holds: with it every changed byte is found, and before anything is unpacked.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, BinaryIO

from edgecompress.errors import BundleError, MissingExtraError

LEVEL = 10
"""Of 22: beyond it weights get hardly smaller, and unpacking needs more memory on a board."""
MAGIC = bytes.fromhex("28b52ffd")
TRAILER = bytes.fromhex("5e2a4d18") + (32).to_bytes(4, "little")
"""RFC 8878, 3.1.2: the start of a skippable frame of 32 bytes."""
TRAILER_BYTES = len(TRAILER) + 32

MOST_WINDOW = 64 << 20  # bytes that unpacking keeps in memory; level 10 wants 4 MiB
MOST_RATIO = 300
FREE_RATIO_BYTES = 64 << 20
"""Below this size any ratio is taken: a report or a small table of equal weights packs well."""

_PIECE = 1 << 20
_FED = 1 << 10  # so many bytes of a bomb become at most 32 MiB: a block is 128 KiB for 4 bytes
_DESCRIPTOR, _CHECKSUM, _REFUSED = 4, 0x04, 0x1B  # RFC 8878, 3.1.1.1.1: the last are reserved


def import_zstandard(instead: str) -> Any:
    """Import zstandard, or say what else would do.

    Raises
    ------
    MissingExtraError
        When it is not installed.
    """
    try:
        import zstandard
    except ImportError:
        raise MissingExtraError("zstandard", "pack", instead) from None
    return zstandard


def write_frame(zstandard: Any, pieces: Iterable[bytes], total: int, stream: IO[bytes]) -> None:
    """Compress `pieces`, which have `total` bytes together, into `stream`."""
    compressor = zstandard.ZstdCompressor(
        level=LEVEL, write_checksum=True, write_content_size=True, write_dict_id=False, threads=0
    ).compressobj(size=total)
    digest = hashlib.sha256()
    for piece in pieces:
        packed = compressor.compress(piece)
        digest.update(packed)
        stream.write(packed)
    packed = compressor.flush()
    digest.update(packed)
    stream.write(packed + TRAILER + digest.digest())


class Frame:
    """The frame of an archive: `total` bytes that `read` gives, and nothing behind it.

    Parameters
    ----------
    archive : Path
    stream : binary file
        The archive, open at its start.
    place : Path
        Where it will be unpacked: so much must be free there.
    most_bytes : int
        The most that it may hold.

    Raises
    ------
    BundleError
        When the archive is damaged, or holds more than it may.
    MissingExtraError
        When zstandard is not installed.
    """

    def __init__(self, archive: Path, stream: BinaryIO, place: Path, most_bytes: int) -> None:
        self._zstandard = import_zstandard(f"unpack it with: tar --zstd -xf {archive}")
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
        raise BundleError("is no .tar.zst archive; give one that `bundle pack` made")
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


def _mb(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
