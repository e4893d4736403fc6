"""The one tar archive that a set of files has: written in one way, read in no other.

Plain files in the order of their names, POSIX ustar headers with mode 0644 and nothing of who or
when, zeros as padding, two empty blocks and zeros up to a whole record at the end. So every byte is
known from the names and contents, and reading compares every byte that is no content: links,
devices, sparse files, extended headers, hidden bytes and what comes after the end are all refused.

GNU tar writes the same bytes: ``tar --create --format=ustar --mtime=@0 --owner=0 --group=0
--numeric-owner --mode=0644 --no-recursion`` with the files named in order.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from edgecompress.errors import BundleError

BLOCK = tarfile.BLOCKSIZE  # 512 bytes
RECORD = tarfile.RECORDSIZE  # 20 blocks
MOST_FILE_BYTES = 8**11 - 1  # eleven octal digits: 8 GiB less one byte

Read = Callable[[int], bytes]
"""Gives exactly so many bytes, or raises `BundleError`."""

KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.DIRTYPE: "a folder of its own",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.CONTTYPE: "a contiguous file",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
    tarfile.GNUTYPE_LONGNAME: "a GNU long name",
    tarfile.GNUTYPE_LONGLINK: "a GNU long link",
    tarfile.XHDTYPE: "an extended header",
    tarfile.XGLTYPE: "an extended header",
}


def header(
    name: str, size: int, *, mode: int = 0o644, time_s: int = 0, kind: bytes = tarfile.REGTYPE
) -> bytes:
    """Give the block that stands before a file (POSIX.1-1988, ustar; IEEE Std 1003.1, pax).

    Not by `tarfile`, whose fields for device numbers differ from one Python to the next. A bundle's
    archive has the defaults only; the layers of an image have folders, programs and a time.

    Raises
    ------
    BundleError
        When the name is too long for ustar (100 bytes, or 155 + 100 cut at a slash) or is no
        Unicode, or the file has 8 GiB or more.
    """
    if not 0 <= size <= MOST_FILE_BYTES:
        raise BundleError(f"{name}: has {size} bytes, and an archive's file less than 8 GiB")
    prefix, last = _cut(name)
    fields = (
        last.ljust(100, b"\0"),
        f"{mode:07o}\0".encode() + b"0000000\0" * 2,  # mode, user, group
        f"{size:011o}\0{time_s:011o}\0".encode(),
        b" " * 8,  # the checksum, which counts itself as blanks
        kind.ljust(101, b"\0") + b"ustar\00000".ljust(72, b"\0"),  # names of owners
        b"0000000\0" * 2,  # device numbers
        prefix.ljust(167, b"\0"),
    )
    block = b"".join(fields)
    return block[:148] + f"{sum(block):06o}\0 ".encode() + block[156:]


def _cut(name: str) -> tuple[bytes, bytes]:
    """Cut a name at the last slash that makes both parts fit, as GNU tar and tarfile do."""
    try:
        text = name.encode()
    except UnicodeError:
        raise BundleError(f"the file name {name!r} is no Unicode") from None
    if len(text) <= 100:
        return b"", text
    at = text.rfind(b"/", 0, 156)
    if at <= 0 or not 0 < len(text) - at - 1 <= 100:
        raise BundleError(f"the file name {name[:60]!r}… is too long for an archive")
    return text[:at], text[at + 1 :]


def pieces(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Give all that a stream's `read` still gives, a MiB at a time."""
    while piece := read(1 << 20):
        yield piece


def file_pieces(file: Path) -> Iterator[bytes]:
    """Give a file's bytes, a MiB at a time."""
    with file.open("rb") as stream:
        yield from pieces(stream.read)


def whole_size(sizes: Mapping[str, int]) -> int:
    """Give the bytes of the archive of files with these sizes."""
    blocks = sum(1 + -(-size // BLOCK) for size in sizes.values()) + 2
    return -(-blocks * BLOCK // RECORD) * RECORD


def write_tar(
    sizes: Mapping[str, int], content: Callable[[str], Iterable[bytes]], time_s: int = 0
) -> Iterator[bytes]:
    """Give the archive's bytes in pieces.

    Parameters
    ----------
    sizes : mapping of str to int
        Bytes of each file, by its name in the archive.
    content : callable
        Gives a file's bytes in pieces.
    time_s : int
        What the headers say of when the files were changed.

    Raises
    ------
    BundleError
        When a name or a size cannot be written, or a file has not the bytes that it had.
    """
    written = 0
    for name in sorted(sizes):
        yield header(name, sizes[name], time_s=time_s)
        found = 0
        for piece in content(name):
            found += len(piece)
            yield piece
        if found != sizes[name]:
            raise BundleError(f"{name}: changed while it was packed; pack again")
        padding = -found % BLOCK
        yield bytes(padding)
        written += BLOCK + found + padding
    yield bytes(whole_size(sizes) - written)


def read_tar(read: Read, total: int) -> Iterator[tuple[str, int, Iterator[bytes]]]:
    """Give name, size and content of each file; take each content before the next file.

    Parameters
    ----------
    read : callable
    total : int
        Bytes of the whole archive.

    Raises
    ------
    BundleError
        At the first byte that is not as `write_tar` writes it. Names are as they were found: the
        caller says which it takes.
    """
    position, last = 0, ""
    while True:
        block = read(BLOCK)
        position += BLOCK
        if block == bytes(BLOCK):
            break
        name, size = _parsed(block)
        if name == last:
            raise BundleError(f"holds {name!r} twice")
        if name < last:
            raise BundleError(f"holds {name!r} after {last!r}; files stand in the order of names")
        padding = -size % BLOCK
        position += size + padding
        if position + 2 * BLOCK > total:
            raise BundleError(f"{name!r} is said to have {size} bytes, more than the archive has")
        pieces = _content(read, size)
        yield name, size, pieces
        if next(pieces, None) is not None:
            raise BundleError(f"{name!r} was not read to its end")
        if read(padding) != bytes(padding):
            raise BundleError(f"hides bytes behind {name!r}")
        last = name
    end = -(-(position + BLOCK) // RECORD) * RECORD
    if end != total:
        raise BundleError(f"ends after {total} bytes and should after {end}")
    if read(total - position) != bytes(total - position):
        raise BundleError("hides bytes behind its end")


def _content(read: Read, size: int) -> Iterator[bytes]:
    while size:
        piece = read(min(size, 1 << 20))
        size -= len(piece)
        yield piece


def _parsed(block: bytes) -> tuple[str, int]:
    kind = block[156:157]
    try:
        member = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except UnicodeError:
        raise BundleError("holds a file name that is no UTF-8") from None
    except tarfile.HeaderError as error:
        raise BundleError(f"has a damaged header ({error})") from None
    name = member.name
    if kind != tarfile.REGTYPE:
        what = KINDS.get(kind, f"a member of type {kind!r}")
        raise BundleError(f"holds {what} ({name[:200]!r}); a bundle is plain files")
    if header(name, member.size) != block:
        raise BundleError(
            f"has a header of {name[:200]!r} that is not as edgecompress writes it; its owner, "
            "time and mode must say nothing"
        )
    return name, member.size
