"""Whether the disk is why a save failed: asked of the file system, whatever the library says.

Libraries tell of a full disk in many ways: an ``OSError`` with its number, the number as text, a
``RuntimeError`` without any. So the folder itself is asked, while the unfinished files still lie
there: can anything more be written? Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgecompress.errors import DiskError

FATAL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
"""No space or no more files, a quota used up, a read-only disk, a file larger than is allowed."""
_TEXTS = {os.strerror(n).lower(): n for n in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)}
_NUMBER = re.compile(r"(?:os error|errno|errcode = |error number) ?(\d+)", re.IGNORECASE)
_PROBE_BYTES = 1 << 17  # a save that failed has filled the disk to its last blocks


def named_errno(error: BaseException) -> int | None:
    """Give the number of a full or read-only disk that `error`, or what caused it, speaks of."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.errno in FATAL:
            return link.errno
        text = str(link)  # Rust and C++ carry the number or its words as text
        for found in _NUMBER.finditer(text):
            if int(found[1]) in FATAL:
                return int(found[1])
        for words, number in _TEXTS.items():
            if words in text.lower():
                return number
        link = link.__cause__ or link.__context__
    return None


def asked_errno(folder: Path) -> int | None:
    """Ask the file system of `folder`: the number of what keeps more from being written, or None.

    A folder that is gone is asked at the nearest one above it.
    """
    place = next((one for one in (folder, *folder.parents) if one.is_dir()), Path("/"))
    try:
        if os.statvfs(place).f_flag & os.ST_RDONLY:
            return errno.EROFS
        with tempfile.TemporaryFile(dir=place) as stream:
            stream.write(bytes(_PROBE_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return error.errno if error.errno in FATAL else None
    return None


def explained(
    error: BaseException, folder: Path, instead: str, within: Path | None = None
) -> DiskError | None:
    """Give the error that says so where a disk is behind `error`; None where none is.

    Parameters
    ----------
    error : BaseException
        What a save, or anything that may have saved, ended with.
    folder : Path
        Where was written to. The folder for temporary files is asked as well.
    instead : str
        What else a person may name in place of `folder`, such as ``--store``.
    within : Path, optional
        The folder in it that the unfinished files lie in.
    """
    temporary = _temporary(folder)
    for place in (folder, temporary):
        if number := asked_errno(place):
            return _full(str(place), number, "TMPDIR" if place == temporary else instead)
    if within is not None and _at_limit(within):
        return _full(str(folder), errno.EFBIG, instead)
    number = named_errno(error)
    if number is None:
        return None
    named = _file_of(error)
    if named is None:  # what was written is gone again, and with it the proof of where
        return _full(f"{folder} or {temporary}", number, f"{instead} or TMPDIR")
    if named.is_relative_to(temporary) and not folder.is_relative_to(temporary):
        return _full(str(temporary), number, "TMPDIR")
    place = folder if named.is_relative_to(folder) else named.parent
    return _full(str(place), number, instead)


@contextlib.contextmanager
def asking(folder: Path, instead: str, within: Path | None = None) -> Iterator[None]:
    """Turn any failure of the block into a `DiskError` where nothing more fits into `folder`.

    To be left before what the block wrote is removed: that would free the disk.

    Raises
    ------
    DiskError
    """
    try:
        yield
    except DiskError:
        raise
    except Exception as error:
        found = explained(error, folder, instead, within)
        if found is not None:
            raise found from error
        raise


def _temporary(otherwise: Path) -> Path:
    try:
        return Path(tempfile.gettempdir())
    except OSError:  # there is none that can be written
        return otherwise


def _at_limit(folder: Path) -> bool:
    """Whether a file below `folder` is as large as this process may make one (``ulimit -f``)."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit == resource.RLIM_INFINITY:
        return False
    with contextlib.suppress(OSError):
        return any(one.lstat().st_size >= limit for one in folder.rglob("*") if one.is_file())
    return False


def _file_of(error: BaseException) -> Path | None:
    """Give the file that the system's own error names."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.errno in FATAL and isinstance(link.filename, str):
            return Path(link.filename).absolute()
        link = link.__cause__ or link.__context__
    return None


def _full(folder: str, number: int, instead: str) -> DiskError:
    remedy = {
        errno.EROFS: f"name another place with {instead}",
        errno.EFBIG: f"raise the limit (ulimit -f), or name another place with {instead}",
        errno.EDQUOT: f"remove files of yours there, or name another place with {instead}",
    }
    do = remedy.get(number, f"make room there, or name another place with {instead}")
    return DiskError(
        f"nothing more can be written to {folder} ({os.strerror(number)}); {do}, and run the same "
        "command again: what was finished is kept"
    )
