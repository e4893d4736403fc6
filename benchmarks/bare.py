"""What a stage is given when a benchmark applies it by itself, without a pipeline and a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgecompress.context import Context
from edgecompress.values import Example, json_digest


def bare_context(
    folder: Path,
    train: Sequence[Example] = (),
    validation: Sequence[Example] = (),
    *,
    seed: int = 0,
    cache: Path | None = None,
    say: Callable[[float], None] | None = None,
) -> Context:
    """Give folders of its own, examples and a seed; nothing can be timed with it.

    Parameters
    ----------
    folder : Path
        Where the stage writes; made here.
    train, validation : sequence of Example
    seed : int
    cache : Path, optional
        Else below `folder`. One that contexts share is filled once.
    say : callable, optional
        Told the number of steps done.
    """
    scratch = folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)

    def cached(key: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        place = (cache or folder / "cache") / json_digest(key)
        if not place.is_dir():
            place.mkdir(parents=True)
            build(place)
        return place

    def progress(done: float, total: float, what: str = "") -> None:  # noqa: ARG001
        if say is not None:
            say(done)

    return Context(folder, scratch, cached, seed, train, validation, progress=progress)
