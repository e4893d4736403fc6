"""Content-addressed results: atomic, checked when read, safe to kill and safe to share.

::

    STORE/results/ab/abcdef…/    a finished result; digests.json lists every file's SHA-256
    STORE/scratch/abcdef…/       what an unfinished stage can resume from (training epochs)
    STORE/aside/…                results in the making; renamed into results/ when whole
    STORE/locks/abcdef….lock     one writer per key, also among several runs
    STORE/locks/in-use           held, shared, by every process that works with the store

A result is written aside and renamed, so a reader sees all of it or nothing. A damaged result
(a changed, missing or added file) is thrown away when read and made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from edgecompress.disk import asking
from edgecompress.errors import EdgeCompressError
from edgecompress.reading import at_home
from edgecompress.values import directory_digests, json_digest
from edgecompress.writing import private, sweep

DIGESTS = "digests.json"
"""Its time of change is when a result was last used."""
IN_USE = "in-use"
INSTEAD = "--store or EDGECOMPRESS_STORE"
KEY_LENGTH = 64
"""A key is a whole SHA-256 in hexadecimal: short keys collide in silence."""


def default_store() -> Path:
    """``EDGECOMPRESS_STORE``, or the user's cache folder."""
    named = os.environ.get("EDGECOMPRESS_STORE")
    if named:
        return at_home(named)
    from platformdirs import user_cache_path

    return user_cache_path("edgecompress") / "store"


def in_words(message: str, root: Path) -> str:
    """Say in the place of a file of the store, of which no user knows, what it is."""
    return re.sub(rf"{re.escape(str(root))}[^\s:'\")(,;]*", "the new model", message)


class Store:
    """Results by key, below `root`, which is made when it is missing.

    Parameters
    ----------
    root : Path
        A folder on one file system (renames must be atomic), writable.

    Raises
    ------
    EdgeCompressError
        When the folder cannot be made or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = at_home(root).absolute()
        try:
            for name in ("results", "scratch", "aside", "locks"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            in_use = os.open(self.root / "locks" / IN_USE, os.O_RDWR | os.O_CREAT, 0o666)
            weakref.finalize(self, os.close, in_use)
            fcntl.flock(in_use, fcntl.LOCK_SH)
        except OSError as error:
            raise EdgeCompressError(
                f"the store {self.root} cannot be written ({error.strerror}); name another with "
                f"{INSTEAD}"
            ) from None

    def path(self, key: str) -> Path:
        """Where the result of `key` lies once it is there."""
        if len(key) != KEY_LENGTH or not set(key) <= set("0123456789abcdef"):
            raise ValueError(f"not a store key: {key!r}")
        return self.root / "results" / key[:2] / key

    def get(self, key: str) -> Path | None:
        """Give the checked folder of `key`, or None; a damaged one is removed."""
        folder = self.path(key)
        if not folder.is_dir():
            return None
        if self._is_whole(folder):
            with contextlib.suppress(OSError):  # a store that is only read keeps no account
                os.utime(folder / DIGESTS)
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        return None

    def obtain(self, key: str, build: Callable[[Path, Path], None]) -> Path:
        """Give the folder of `key`; when it is not there, let ``build(folder, scratch)`` fill it.

        Only one process builds a key at a time; others wait and take its result. `scratch`
        outlives a kill and is removed after success.
        """
        found = self.get(key)
        if found:
            return found
        scratch, target = self.root / "scratch" / key, self.path(key)
        with (
            asking(self.root, INSTEAD),
            FileLock(self.root / "locks" / f"{key}.lock"),
        ):
            found = self.get(key)
            if found:
                return found
            scratch.mkdir(parents=True, exist_ok=True)
            with private(self.root / "aside", INSTEAD) as aside:
                made = aside / "made"  # the outer folder is this user's alone, this one need not be
                made.mkdir()
                build(made, scratch)
                digests = directory_digests(made)
                text = json.dumps(digests, indent=1, sort_keys=True)
                (made / DIGESTS).write_text(text, encoding="utf-8")
                sync_tree(made)
                target.parent.mkdir(exist_ok=True)
                made.rename(target)
            shutil.rmtree(scratch, ignore_errors=True)
            return target

    def cached(self, key: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """Give the folder that `build` fills, made once per `key`, a JSON document."""
        return self.obtain(json_digest({"cached": dict(key)}), lambda folder, _: build(folder))

    def sweep(self) -> None:
        """Remove what killed runs have left; what a living run still builds is kept.

        What a stage can resume from stays, unless its result is there already. The folder for
        temporary files is swept as well.
        """
        sweep(self.root / "aside")
        sweep(Path(tempfile.gettempdir()))
        for scratch in (self.root / "scratch").iterdir():
            if len(scratch.name) != KEY_LENGTH or not self.path(scratch.name).is_dir():
                continue
            with (
                contextlib.suppress(Timeout),
                FileLock(self.root / "locks" / f"{scratch.name}.lock", timeout=0),
            ):
                shutil.rmtree(scratch, ignore_errors=True)

    @staticmethod
    def _is_whole(folder: Path) -> bool:
        try:
            expected = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        found = directory_digests(folder)
        found.pop(DIGESTS, None)
        return bool(found == expected)


def sync_tree(folder: Path) -> None:
    """Flush every file below `folder` to disk, so that a rename never outlives its content."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
