"""The layers of an image, written by us: the same bytes on any machine, at any time.

A layer is a tar archive of files and of the folders that they lie in, in the order of their paths,
of user 0, with one time. It is not compressed: compressed bytes differ between versions of zlib,
and then the image would have another digest on another machine.

Wheels are unpacked as pip does with ``--target``, without running anything: a layer for arm64 can
be made on amd64. Nothing is compiled: bytecode belongs to one version of Python.
"""

from __future__ import annotations

import hashlib
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from functools import partial
from pathlib import Path, PurePosixPath

from edgecompress.bundle.names import safe_path
from edgecompress.bundle.tarball import BLOCK, RECORD, file_pieces, header, pieces
from edgecompress.errors import ImageError
from edgecompress.images.wheel import EPOCH

SITE = "opt/edgecompress"
"""Where packages lie in the image."""
MOST_BYTES = 8 * 10**9
"""What one wheel may hold, unpacked, and what one layer of a base may have."""
_MOST_METADATA = 4 << 20
_METADATA = re.compile(r"[^/]+\.dist-info/METADATA")
_UNPACKED = ("purelib", "platlib", "data")
_LEFT_OUT = ("scripts", "headers")  # nobody calls the one or compiles with the other


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a layer.

    Attributes
    ----------
    size : int
        In bytes.
    content : callable
        Gives the bytes in pieces.
    program : bool
        Whether it may be executed.
    """

    size: int
    content: Callable[[], Iterable[bytes]]
    program: bool = False


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as a file.

    Attributes
    ----------
    file : Path
        The uncompressed tar archive.
    digest : str
        ``sha256:…`` of the file, which is the layer's diff ID too.
    size : int
        In bytes.
    """

    file: Path
    digest: str
    size: int


def write_layer(file: Path, members: Mapping[str, Member], outside: Iterable[str] = ()) -> Layer:
    """Write a layer.

    Parameters
    ----------
    file : Path
    members : mapping of str to Member
        By path in the image, without a slash in front.
    outside : iterable of str
        Folders that the base has. They are left as they are there.

    Raises
    ------
    ImageError
        When a path leaves the image, or a member has not the size that it is said to have.
    """
    parents = {parent.as_posix() for name in members for parent in PurePosixPath(name).parents}
    folders = parents - {".", *outside}
    if both := sorted(folders & members.keys()):
        raise ImageError(f"{both[0]}: is a file, and a folder of other files")
    digest, size = hashlib.sha256(), 0
    with file.open("xb") as stream:
        for path in sorted(folders | members.keys(), key=lambda path: path.split("/")):
            for piece in _entry(path, members.get(path)):
                digest.update(piece)
                size += stream.write(piece)
        end = bytes(-(size + 2 * BLOCK) % RECORD + 2 * BLOCK)
        digest.update(end)
        size += stream.write(end)
    return Layer(file, f"sha256:{digest.hexdigest()}", size)


def _entry(path: str, member: Member | None) -> Iterator[bytes]:
    if not safe_path(path):
        raise ImageError(f"{path[:200]!r}: no path that a file of an image may have")
    if member is None:
        yield header(f"{path}/", 0, mode=0o755, time_s=EPOCH, kind=tarfile.DIRTYPE)
        return
    mode = 0o755 if member.program else 0o644
    yield header(path, member.size, mode=mode, time_s=EPOCH)
    found = 0
    for piece in member.content():
        found += len(piece)
        yield piece
    if found != member.size:
        raise ImageError(f"{path}: has {found} bytes and should have {member.size}")
    yield bytes(-found % BLOCK)


def folder_members(folder: Path, into: str) -> dict[str, Member]:
    """Give the files of `folder` as members below `into`."""
    return {
        f"{into}/{path.relative_to(folder).as_posix()}": Member(
            path.stat().st_size, partial(file_pieces, path)
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def text_member(text: str) -> Member:
    """Give a text as a member."""
    content = text.encode()
    return Member(len(content), lambda: [content])


def open_wheel(wheel: Path) -> zipfile.ZipFile:
    """Open a wheel to read it.

    Raises
    ------
    ImageError
        When it is none, or holds too much.
    """
    try:
        archive = zipfile.ZipFile(wheel)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ImageError(f"{wheel}: cannot be read as a wheel ({error})") from None
    if sum(info.file_size for info in archive.infolist()) > MOST_BYTES:
        archive.close()
        raise ImageError(f"{wheel}: holds more than {MOST_BYTES} bytes")
    return archive


def wheel_members(wheels: Iterable[zipfile.ZipFile]) -> dict[str, Member]:
    """Give the files of opened wheels as members below `SITE`; numpy's own tests are left out.

    Raises
    ------
    ImageError
        When a wheel holds a path that leaves its folder, or a file that another wheel has too.
    """
    found: dict[str, Member] = {}
    for wheel in wheels:
        for info in wheel.infolist():
            inside = None if info.is_dir() else _placed(wheel, info)
            if inside is None:
                continue
            path = f"{SITE}/{inside}"
            if path in found:
                raise ImageError(f"{wheel.filename}: holds {inside}, which is there already")
            program = bool(info.external_attr >> 16 & 0o111)
            found[path] = Member(info.file_size, partial(_inflated, wheel, info), program)
    return found


def wheel_metadata(wheel: zipfile.ZipFile) -> Message:
    """Read METADATA of an opened wheel.

    Raises
    ------
    ImageError
        When there is none, or more than one.
    """
    found = [info for info in wheel.infolist() if _METADATA.fullmatch(info.filename)]
    if len(found) != 1 or found[0].file_size > _MOST_METADATA:
        raise ImageError(f"{wheel.filename}: is no wheel with one METADATA of a fit size")
    text = b"".join(_inflated(wheel, found[0])).decode("utf-8", "replace")
    return Parser().parsestr(text, headersonly=True)


def _placed(wheel: zipfile.ZipFile, info: zipfile.ZipInfo) -> str | None:
    """Say where a member goes below `SITE`, or that it is left out."""
    name = info.filename
    if not safe_path(name) or stat.S_ISLNK(info.external_attr >> 16):
        raise ImageError(
            f"{wheel.filename}: holds {name[:200]!r}, which does not stay in its folder"
        )
    first, _, rest = name.partition("/")
    if first.endswith(".data"):
        scheme, _, name = rest.partition("/")
        if scheme in _LEFT_OUT:
            return None
        if scheme not in _UNPACKED or not name:
            raise ImageError(
                f"{wheel.filename}: holds {info.filename}, for which there is no place"
            )
    parts = name.split("/")
    return None if parts[0] == "numpy" and "tests" in parts[:-1] else name


def _inflated(wheel: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    try:
        with wheel.open(info) as stream:
            yield from pieces(stream.read)
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ImageError(f"{wheel.filename}: {info.filename} cannot be read ({error})") from None
