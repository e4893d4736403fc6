"""The store of results: what lies there, and making room."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgecompress.api.shown import Section, Shown

if TYPE_CHECKING:
    from edgecompress.api.arguments import StrPath
    from edgecompress.store_keeping import Entry

DAY = 86400.0
GB = 1e9


@dataclass(frozen=True, slots=True, repr=False)
class StoreContents(Shown):
    """What a store holds, what was not used for longest first."""

    directory: Path
    entries: tuple[Entry, ...]

    def sections(self) -> Iterator[Section]:
        """Sum it up by kind."""
        yield _by_kind(f"{self.directory}: {_size(self.entries)}", self.entries)


@dataclass(frozen=True, slots=True, repr=False)
class PrunedStore(Shown):
    """What was removed from a store, or would be, and how many bytes stay."""

    directory: Path
    gone: tuple[Entry, ...]
    left: int
    removed: bool

    def sections(self) -> Iterator[Section]:
        """Sum it up by kind."""
        did = "removed" if self.removed else "would be removed"
        stay = "stay" if self.removed else "would stay"
        title = f"{self.directory}: {_size(self.gone)} {did}, {self.left / GB:.2f} GB {stay}"
        yield _by_kind(title, self.gone)


def show_store(store: StrPath | None = None) -> StoreContents:
    """Say how much lies in the store of results, and since when it was not used.

    Parameters
    ----------
    store : path, optional
        Where results are kept; by default the user's cache folder.

    Raises
    ------
    EdgeCompressError
        When there is no store.
    """
    from edgecompress.store_keeping import entries

    root = _root(store)
    return StoreContents(root, tuple(entries(root)))


def prune_store(
    *,
    max_size: float,
    keep: StrPath | Iterable[StrPath] = (),
    dry_run: bool = False,
    store: StrPath | None = None,
) -> PrunedStore:
    """Remove results that were not used for longest, until the store is small enough.

    A result that a later run needs is made again. Bundles and reports are no part of the store.

    Parameters
    ----------
    max_size : float
        How many GB may stay.
    keep : path or sequence of paths
        Directories of runs, whose models stay.
    dry_run : bool
        Only say what would be removed.
    store : path, optional
        Where results are kept; by default the user's cache folder.

    Raises
    ------
    EdgeCompressError, DataError
        When there is no store, a run works with it, or a directory to keep holds no results.
    """
    from edgecompress.store_keeping import prune

    root = _root(store)
    runs = [keep] if isinstance(keep, str | os.PathLike) else list(keep)
    kept = {key for run in runs for key in _keys(Path(run))}
    gone, left = prune(root, max_size * GB, kept, remove=not dry_run)
    return PrunedStore(root, tuple(gone), left, not dry_run)


def _root(store: StrPath | None) -> Path:
    from edgecompress.reading import at_home
    from edgecompress.store import default_store

    return at_home(os.fspath(store)).absolute() if store else default_store()


def _keys(run: Path) -> Iterator[str]:
    """Give the keys of the models in a run's table."""
    from edgecompress.errors import DataError
    from edgecompress.report.document import from_json

    file = run / "results.json"
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"no run to keep is here ({error.strerror}); name the directory that -o named",
            file=file,
        ) from None
    for row in from_json(text).rows:
        yield from (step.key for step in row.steps)


def _by_kind(title: str, found: Iterable[Entry]) -> Section:
    kinds: dict[str, list[Entry]] = {}
    for entry in found:
        kinds.setdefault(entry.kind, []).append(entry)
    now = time.time()
    lines = [
        (kind, str(len(some)), f"{sum(one.size for one in some) / GB:.2f}",
         f"{(now - min(one.used for one in some)) / DAY:.0f}")
        for kind, some in sorted(kinds.items(), key=lambda pair: -sum(x.size for x in pair[1]))
    ]  # fmt: skip
    return Section(title, ("what", "how many", "GB", "days unused, most"), tuple(lines), right=1)


def _size(found: Iterable[Entry]) -> str:
    return f"{sum(entry.size for entry in found) / GB:.2f} GB"
