"""How a file that a person hands over is read: a regular file, within a bound, and in words.

Every room that reads a stranger's file comes through here, for three reasons. A device or a named
pipe in a file's place never ends (`open_regular`). A file that is read whole must have a bound, set
by the room that knows what it holds (`read_bytes`, `read_text`, `read_json`). And whatever a parser
raises about broken bytes becomes one sentence that names the file (`reading`).

Standard library only: a device reads its bundle with this.
"""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any

from edgecompress.errors import DataError, EdgeCompressError
from edgecompress.words import shortened

JSON_BYTES = 4 * 2**20
"""Of a configuration. Python's objects take up to thirty times the bytes of small lists, so that no
such file builds more than about 100 MB; real ones hold some kilobytes."""

PARSER_FAULTS: tuple[type[Exception], ...] = (
    ArithmeticError, AssertionError, AttributeError, BufferError, EOFError, LookupError,
    MemoryError, RuntimeError, SyntaxError, TypeError, ValueError,
    TokenError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What parsers raise about bytes that are not what they expect. Meant for `reading` around one call
of a parser; around our own code it would hide our mistakes."""

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}


def at_home(path: str | Path) -> Path:
    """Expand ``~`` and ``~user``; what names nobody's home stays as it is, and no file is there."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises there


def real(path: Path) -> str:
    """Give the absolute path without links, also of one whose links go round in a circle."""
    return os.path.realpath(path)


def open_regular(file: Path) -> io.BufferedReader:
    """Open a file to read its bytes, but nothing that is no file: such reads may never end.

    Raises
    ------
    OSError
        Also where the name can be no file's (a NUL in it) and where the file is a directory, a
        device, a named pipe or a socket; `strerror` says so.
    """
    try:
        _refuse_special(file, file.stat())  # before opening: to open a device may already do things
        # Without O_NONBLOCK the open itself would wait, if a pipe had come into the file's place.
        stream = os.fdopen(os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    except ValueError:
        raise OSError(errno.EINVAL, "no file can have this name", str(file)) from None
    try:
        _refuse_special(file, os.fstat(stream.fileno()))
    except OSError:
        stream.close()
        raise
    return stream


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Give the file's name to an error of reading from it; only an error of opening has one."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(file)
        raise


def _refuse_special(file: Path, status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        what = _KINDS.get(kind, "something else")
        code = errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL
        raise OSError(code, f"it is {what}, not a file", str(file))


def read_bytes(file: Path, most: int) -> bytes:
    """Read a file whole, if it has no more than `most` bytes.

    Raises
    ------
    OSError
        As `open_regular`, and where the file is larger.
    """
    with open_regular(file) as stream, naming(file):
        found = stream.read(most + 1)  # the size that a file states may be 0, as in /proc
    if len(found) > most:
        # Not EFBIG: that is said of files that are written, where a limit of the system is reached.
        raise OSError(errno.EOVERFLOW, f"it has more than {most:,} bytes", str(file))
    return found


def read_text(file: Path, most: int) -> str:
    """Read a UTF-8 file of at most `most` bytes, without a byte order mark.

    Raises
    ------
    DataError
        Naming the file, and the line that is not UTF-8.
    """
    with reading(file):
        content = read_bytes(file, most)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError("not UTF-8; save the file as UTF-8", file=file, line=line) from None


def read_json(file: Path, most: int = JSON_BYTES) -> Any:
    """Read a JSON document of at most `most` bytes.

    Raises
    ------
    DataError
        Naming the file, and the line where it stops being JSON.
    """
    text = read_text(file, most)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"cannot be read as JSON ({error.msg})", file=file, line=error.lineno
        ) from None
    except RecursionError:
        raise DataError("cannot be read as JSON (it is nested too deeply)", file=file) from None
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"cannot be read as JSON ({first_line(error)})", file=file) from None


def read_optional(file: Path) -> dict[str, Any]:
    """Read a JSON object that may be missing: then it is empty.

    Raises
    ------
    DataError
        When it is there and cannot be read, or is no object.
    """
    if not file.exists():
        return {}
    found = read_json(file)
    if not isinstance(found, dict):
        raise DataError("must be a JSON object", file=file)
    return found


@contextmanager
def reading(
    file: Path, what: str = "cannot be read", faults: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turn what is raised inside into one sentence that names `file`.

    Parameters
    ----------
    file : Path
        What is read.
    what : str
        What to say of bytes that a parser refuses; its own words follow in brackets.
    faults : tuple of exception classes
        What the parser raises; `PARSER_FAULTS` for one that raises anything.

    Raises
    ------
    DataError
        For `faults`, and always for errors of the file system and for want of memory. An error of
        ours passes as it is; a `DataError` that names no file gets this one.
    """
    try:
        yield
    except DataError as error:
        raise error if error.file else DataError(error.message, file=file) from None
    except EdgeCompressError:
        raise
    except OSError as error:
        if error.errno is None:  # a library's own, of the bytes and not of the file system
            raise DataError(f"{what} ({first_line(error)})", file=file) from None
        at = Path(os.fsdecode(error.filename)) if error.filename else file
        if isinstance(error, FileNotFoundError):
            raise DataError("there is no such file", file=at) from None
        why = error.strerror or first_line(error)
        raise DataError(f"cannot be read ({why})", file=at) from None
    except RecursionError:
        raise DataError(f"{what} (it is nested too deeply)", file=file) from None
    except MemoryError:
        raise DataError(f"{what} (it takes more memory than there is)", file=file) from None
    except faults as error:
        raise DataError(f"{what} ({first_line(error)})", file=file) from None


def first_line(error: BaseException) -> str:
    """Give what an exception says, as far as it fits into a sentence of ours."""
    lines = str(error).strip().splitlines()
    return shortened(lines[0], 160) if lines else type(error).__name__
