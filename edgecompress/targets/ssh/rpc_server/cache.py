"""The cache folder on the board: what was carried there by content, sessions, the environment."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgecompress.targets.ssh.rpc_server.messages import RequestRefusedError, write

MARKER = ".edgecompress"
ENVIRONMENT = "edgecompress.json"
_NAME = re.compile(r"[^/\0]{1,200}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def _whole(name: str) -> str:
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise RequestRefusedError(f"{name!r} is no name of a file")
    return name


def _bytes_below(folder: Path) -> int:
    """Bytes of all files in `folder`, each counted once however often it is linked."""
    seen: dict[tuple[int, int], int] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            found = (Path(place) / name).lstat()
            seen[found.st_dev, found.st_ino] = found.st_size
    return sum(seen.values())


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def end_agents(folder: Path) -> None:
    """Kill the processes that were given a path in `folder`: agents that hang, or lost their host.

    SSH itself cannot: OpenSSH passes no signal to a session of root.
    """
    for found in Path("/proc").glob("[0-9]*"):
        if found.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            words = (found / "cmdline").read_bytes().split(b"\0")
            below = os.fsencode(folder)
            if any(word == below or word.startswith(below + b"/") for word in words):
                os.kill(int(found.name), signal.SIGKILL)


class Cache:
    """The requests that are about its files, one method each."""

    def __init__(self) -> None:
        self._cache: Path | None = None
        self._lock: int | None = None
        self._session: Path | None = None
        self._preparing: int | None = None

    @property
    def cache(self) -> Path:
        """The cache folder, once it was entered."""
        if self._cache is None:
            raise RequestRefusedError("the cache folder was not entered")
        return self._cache

    def look(self, cache: str) -> dict[str, Any]:
        """Say what is in the cache folder and how much room there is, and write nothing."""
        folder = Path(cache)
        there = folder
        while not there.exists() and there != there.parent:
            there = there.parent
        return {
            "ours": (folder / MARKER).is_file(),
            "free": shutil.disk_usage(there).free,
            "environment": self._environment(folder),
        }

    @staticmethod
    def _environment(folder: Path) -> Any:
        try:
            return json.loads((folder / "venv" / ENVIRONMENT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def enter(self, cache: str) -> dict[str, Any]:
        """Make the cache folder, sweep what dead sessions left, and begin a session of our own."""
        folder = Path(cache)
        if not (folder / MARKER).is_file():
            if folder.is_dir() and any(folder.iterdir()):
                raise RequestRefusedError(
                    f"{cache} is there already and was not made by edgecompress; name an empty or "
                    "a new folder as `cache`"
                )
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / MARKER).write_text("made by edgecompress; `edgecompress targets clean`\n")
        info = folder.stat()
        if info.st_uid != os.geteuid() or info.st_mode & 0o022:
            raise RequestRefusedError(
                f"{cache} belongs to another user or can be written by others, and programs would "
                "be run from it; name a new folder as `cache`"
            )
        self._cache = folder
        for name in ("files", "models", "jobs"):
            (folder / name).mkdir(exist_ok=True)
        swept = 0
        with _locked(folder / "jobs"):  # sessions that begin wait for each other
            for old in sorted((folder / "jobs").iterdir()):
                if not self._alive(old):
                    end_agents(old)
                    shutil.rmtree(old, ignore_errors=True)
                    swept += 1
            self._session = Path(tempfile.mkdtemp(dir=folder / "jobs"))
            self._lock = os.open(self._session, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        return {"session": str(self._session), "swept": swept, **self.look(cache)}

    @staticmethod
    def _alive(session: Path) -> bool:
        """Whether the RPC server of a session still runs: it holds a lock on its folder.

        Asked under the lock of the folder of all sessions, so that one that begins has its own.
        """
        try:
            descriptor = os.open(session, os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _file(self, digest: str, name: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise RequestRefusedError(f"{digest!r} is no digest")
        return self.cache / "files" / digest / _whole(name)

    def state(self, digest: str, name: str, size: int) -> dict[str, Any]:
        """Say where a file is or goes, whether it is there, and how much of it."""
        file = self._file(digest, name)
        file.parent.mkdir(exist_ok=True)
        part = file.with_name(file.name + ".part")
        sent = part.stat().st_size if part.is_file() else 0
        if sent > size:
            part.unlink()
            sent = 0
        whole = file.is_file() and file.stat().st_size == size
        free = shutil.disk_usage(file.parent).free
        return {"path": str(file), "part": str(part), "whole": whole, "sent": sent, "free": free}

    def finish(self, digest: str, name: str) -> dict[str, Any]:
        """Rename what was sent if its content is right; else remove it."""
        file = self._file(digest, name)
        part = file.with_name(file.name + ".part")
        if not part.exists() and file.exists():  # another host sent the same file meanwhile
            return {"right": True}
        hashed = hashlib.sha256()
        said = time.monotonic()
        with part.open("rb") as stream:
            while block := stream.read(1 << 20):
                hashed.update(block)
                if time.monotonic() - said > 2:
                    said = time.monotonic()
                    write({"working": True})
            os.fsync(stream.fileno())
        if hashed.hexdigest() != digest:
            part.unlink()
            return {"right": False}
        part.replace(file)
        return {"right": True}

    def link(self, digest: str, files: list[list[str]]) -> str:
        """Lay carried files side by side under their own names; give the folder.

        `files` holds (relative path in the folder, digest, name) of each.
        """
        if not _DIGEST.fullmatch(digest):
            raise RequestRefusedError(f"{digest!r} is no digest")
        folder = self.cache / "models" / digest
        if folder.is_dir():
            return str(folder)
        aside = Path(tempfile.mkdtemp(dir=self._session))  # swept when we are killed
        for relative, content, name in files:
            place = aside.joinpath(*[_whole(part) for part in relative.split("/")])
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self._file(content, name), place)
            except OSError:  # a file system without links
                shutil.copyfile(self._file(content, name), place)
        try:
            aside.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
            shutil.rmtree(aside)  # another session was first
        return str(folder)

    def clean(self, cache: str) -> dict[str, Any]:
        """Remove a cache folder of ours and say how many bytes that freed."""
        folder = Path(cache)
        if not folder.exists():
            return {"removed": 0}
        if not (folder / MARKER).is_file():
            raise RequestRefusedError(f"{cache} was not made by edgecompress, so it is left alone")
        if (folder / "jobs").is_dir():
            with _locked(folder / "jobs"):
                others = [one for one in (folder / "jobs").iterdir() if one != self._session]
                if any(map(self._alive, others)):
                    raise RequestRefusedError(
                        f"a job of another connection runs in {cache}; clean when it is over"
                    )
        size = _bytes_below(folder)
        self._session = None
        marker = folder / MARKER
        for found in folder.iterdir():  # the marker goes last: a clean that is killed can go on
            if found.is_dir() and not found.is_symlink():
                shutil.rmtree(found)
            elif found != marker:
                found.unlink()
        marker.unlink()
        folder.rmdir()
        return {"removed": size}

    def begin_environment(self, key: str) -> dict[str, Any]:
        """Make room for a virtual environment; waits for another session that makes one."""
        descriptor = os.open(
            self.cache / "prepare.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise RequestRefusedError(
                "another connection prepares it now; try again when it is over"
            ) from None
        self._preparing = descriptor
        folder = self.cache / f"venv-{_whole(key)}"
        if folder.exists():
            shutil.rmtree(folder)
        return {"folder": str(folder)}

    def finish_environment(self, key: str, base: str) -> str:
        """Make the environment of `key` the one that is used, and remove the others."""
        folder = self.cache / f"venv-{_whole(key)}"
        (folder / "base").write_text(base, encoding="utf-8")  # read by the shell, see `shell`
        (folder / ENVIRONMENT).write_text(json.dumps({"key": key}), encoding="utf-8")
        aside = self.cache / ".venv"
        aside.unlink(missing_ok=True)
        aside.symlink_to(folder.name)
        aside.replace(self.cache / "venv")
        for old in self.cache.glob("venv-*"):
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)
        if self._preparing is not None:
            os.close(self._preparing)
            self._preparing = None
        return str(self.cache / "venv" / "bin" / "python")

    def forget(self, files: list[list[str]]) -> None:
        """Remove carried files, given as (digest, name), that are of no more use."""
        for digest, name in files:
            shutil.rmtree(self._file(digest, name).parent, ignore_errors=True)
