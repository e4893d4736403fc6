"""Writing what a person asked for: by one command at a time, and not seen before it is whole.

What is made lies in a folder of ours beside the output, with a name that nobody can guess and open
to this user alone (``.edgecompress-…``). It is renamed to the output at the end. The folder is also
the lock: its ``holder.json`` is locked as long as the command lives, so a second command for the
same output is told who writes there, and what a killed command left is removed by the next one that
writes into the same folder. Nothing else is left beside an output. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from edgecompress.disk import asking
from edgecompress.errors import EdgeCompressError
from edgecompress.reading import at_home

PREFIX = ".edgecompress-"
HOLDER = "holder.json"
REPLACED = "replaced"
_NAME = re.compile(r"\.edgecompress-([0-9a-f]{12})-[a-z0-9_]{8}")
_PATIENCE_S = 2.0  # for another command that looks around in the same folder
_LARGEST_HOLDER = 4096  # bytes; what stands in one has a few hundred
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux' renameat2


@contextlib.contextmanager
def writing(output: Path, instead: str = "-o") -> Iterator[Path]:
    """Be the only command that writes `output`; give a private folder on its disk to make it in.

    `put` moves what was made there into place; whatever else is in the folder is removed.

    Parameters
    ----------
    output : Path
        The file or directory that will be written. Folders above it are made, and removed again
        where nothing comes of it.
    instead : str
        The option that names another place, for messages.

    Raises
    ------
    EdgeCompressError
        When another command writes there.
    DiskError
        When the block fails because nothing more can be written there.
    OSError
        When the folder above cannot be made or written.
    """
    output = at_home(output).absolute()
    missing = [folder for folder in output.parents if not folder.exists()]
    with asking(output.parent, instead):
        output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _private(output.parent, _digest(output.name), output, instead) as folder:
            yield folder
    except BaseException:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()  # one that something lies in stays
        raise


@contextlib.contextmanager
def writing_into(folder: Path, instead: str = "-o") -> Iterator[Path]:
    """Be the only command that writes several files into `folder`, which is there; see `writing`.

    Raises
    ------
    EdgeCompressError, DiskError, OSError
        As `writing`.
    """
    with _private(folder, _digest("/"), folder, instead) as private_folder:
        yield private_folder


@contextlib.contextmanager
def private(parent: Path, instead: str) -> Iterator[Path]:
    """Give a folder in `parent` that is this user's alone and goes at the end; see `writing`."""
    with _private(parent, _digest(""), None, instead) as folder:
        yield folder


@contextlib.contextmanager
def temporary() -> Iterator[Path]:
    """Give a folder for temporary files, below ``TMPDIR``; see `private`."""
    with private(Path(tempfile.gettempdir()), "TMPDIR") as folder:
        yield folder


def put(made: Path, output: Path) -> None:
    """Rename `made`, a file or directory in a folder of `writing`, to `output`.

    A file that is there is replaced, and so is a link itself: nothing is written through it. A
    directory that is there changes places with `made`, in one step where the system can. Whether
    it may be replaced is for the caller to know.

    Raises
    ------
    OSError
    """
    if not made.is_dir() or not output.is_dir() or output.is_symlink():
        made.replace(output)
        return
    if _exchange(made, output):
        return
    replaced = made.with_name(REPLACED)
    output.rename(replaced)  # `sweep` puts it back should we be killed here
    try:
        made.rename(output)
    except OSError:
        replaced.rename(output)
        raise


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file aside and rename it to `path`: a reader sees the old one or the new one.

    Raises
    ------
    DiskError, OSError
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode("utf-8") if isinstance(content, str) else content
    with private(path.parent, "-o") as folder, (folder / "made").open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
        put(folder / "made", path)


def sweep(parent: Path) -> None:
    """Remove what killed commands of this user left in `parent`; what is in use stays."""
    with _alone(parent) as alone:
        for folder in _ours(parent):
            _unused(folder, alone)


@contextlib.contextmanager
def _private(parent: Path, of: str, output: Path | None, instead: str) -> Iterator[Path]:
    with asking(parent, instead):
        folder, descriptor = _claim(parent, of, output)
    try:
        with asking(parent, instead, folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _claim(parent: Path, of: str, output: Path | None) -> tuple[Path, int]:
    """Sweep, see that nobody else writes `output`, and make a folder with its holder locked."""
    with _alone(parent) as alone:
        for other in _ours(parent):
            if not _unused(other, alone) and output is not None and _of(other) == of:
                raise EdgeCompressError(_held(other, output))
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{of}-", dir=parent))
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(folder / HOLDER, flags, 0o600)
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            holder = {"pid": os.getpid(), "since": since, "output": str(output or "")}
            os.write(descriptor, json.dumps(holder).encode())
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return folder, descriptor


@contextlib.contextmanager
def _alone(parent: Path) -> Iterator[bool]:
    """Keep other commands from looking around in `parent`; False where that is not to be had."""
    try:
        descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        yield _locked_soon(descriptor)
    finally:
        os.close(descriptor)


def _locked_soon(descriptor: int) -> bool:
    limit = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # in a folder of all users anyone may hold it as long as they like
            if time.monotonic() > limit:
                return False
            time.sleep(0.005)
        except OSError:
            return False
        else:
            return True


def _ours(parent: Path) -> list[Path]:
    """Find the folders of our making in `parent`: by name, kind and owner."""
    found = []
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if _NAME.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    info = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid():
                        found.append(parent / entry.name)
    return found


def _unused(folder: Path, alone: bool) -> bool:
    """Remove a folder that no living command holds; False where one does."""
    try:
        descriptor = os.open(folder / HOLDER, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        if alone:  # else it may be in the making
            shutil.rmtree(folder, ignore_errors=True)
        return True
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _put_back(folder)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return True


def _put_back(folder: Path) -> None:
    """Give back what `put` had taken away when its command was killed."""
    output = Path(_read_holder(folder).get("output") or "/")
    if output.parent == folder.parent and not os.path.lexists(output):
        with contextlib.suppress(OSError):
            (folder / REPLACED).rename(output)


def _held(folder: Path, output: Path) -> str:
    holder = _read_holder(folder)
    who = f" (process {holder['pid']}, since {holder['since']})" if "pid" in holder else ""
    return (
        f"{output} is being written by another edgecompress{who}; wait until it is done, or name "
        "another -o"
    )


def _read_holder(folder: Path) -> dict[str, str]:
    try:
        with (folder / HOLDER).open("rb") as stream:
            found = json.loads(stream.read(_LARGEST_HOLDER))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if type(found) is dict else {}


def _digest(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:12]


def _of(folder: Path) -> str:
    return folder.name[len(PREFIX) : len(PREFIX) + 12]


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; False where the system cannot."""
    rename: Callable[..., int] | None = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    return rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0
