"""What lies in a store, and making room there: what was not used for longest goes first."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from edgecompress.errors import EdgeCompressError
from edgecompress.store import DIGESTS, IN_USE, INSTEAD
from edgecompress.writing import sweep

UNFINISHED = "unfinished trainings"
KINDS = {
    ".onnx": "ONNX models",
    ".safetensors": "PyTorch models",
    ".f16": "answers of teachers",
}
"""What a result is, by the ending of a file in it; the first that fits."""
OTHERS = "measurements and the like"


@dataclass(frozen=True, slots=True)
class Entry:
    """A result, or what an unfinished one can go on from.

    Attributes
    ----------
    key : str
    folder : Path
    kind : str
    size : int
        Bytes of its files.
    used : float
        When it was last used, in seconds since 1970.
    """

    key: str
    folder: Path
    kind: str
    size: int
    used: float


def entries(root: Path) -> list[Entry]:
    """List what lies in the store at `root`, what was not used for longest first.

    Raises
    ------
    EdgeCompressError
        When `root` is no store.
    """
    _check(root)
    results = [_entry(folder, "") for folder in sorted((root / "results").glob("*/*"))]
    trainings = [_entry(folder, UNFINISHED) for folder in sorted((root / "scratch").glob("*"))]
    return sorted((*results, *trainings), key=lambda entry: entry.used)


def _check(root: Path) -> None:
    if not (root / "results").is_dir():
        raise EdgeCompressError(f"{root} is no store; name another with {INSTEAD}")


def _entry(folder: Path, kind: str) -> Entry:
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    endings = {file.suffix for file in files}
    kind = kind or next((said for ending, said in KINDS.items() if ending in endings), OTHERS)
    size, used = 0, 0.0
    for file in (*files, folder):
        with contextlib.suppress(OSError):  # gone meanwhile: its run has ended
            found = file.stat()
            size += found.st_size if file != folder else 0
            if kind == UNFINISHED or file.name == DIGESTS:
                used = max(used, found.st_mtime)
    return Entry(folder.name, folder, kind, size, used)


def prune(
    root: Path, most: float, keep: Collection[str], *, remove: bool
) -> tuple[list[Entry], int]:
    """Remove what was not used for longest until the store has at most `most` bytes.

    Parameters
    ----------
    root : Path
    most : float
        Bytes.
    keep : collection of str
        Keys of results that stay, however large they are.
    remove : bool
        Whether to remove; else it is only said what would go.

    Returns
    -------
    (list of Entry, int)
        What went, or would go, and how many bytes stay.

    Raises
    ------
    EdgeCompressError
        When `root` is no store, or a run works with it.
    """
    with _alone(root) if remove else contextlib.nullcontext():
        found = entries(root)
        size, gone = sum(entry.size for entry in found), []
        for entry in found:
            if size <= most:
                break
            if entry.key in keep:
                continue
            if remove:
                _remove(entry, root)
            size -= entry.size
            gone.append(entry)
        if remove:
            sweep(root / "aside")
        return gone, size


def _remove(entry: Entry, root: Path) -> None:
    """Take a folder away whole: who is killed here leaves no half of a result under its key."""
    aside = root / "aside" / f"pruned-{entry.key}"
    entry.folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    _check(root)
    with (root / "locks" / IN_USE).open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EdgeCompressError(
                f"a run works with the store {root}; prune it when the run has ended"
            ) from None
        yield
