"""What a stage is given when a benchmark applies it by itself, without a pipeline and a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgecompress.values import Candidate, Example, Measurement, json_digest


@dataclass
class BareContext:
    """Folders of its own, examples and a seed; nothing can be timed with it.

    Attributes
    ----------
    folder : Path
        Where the stage writes; made here.
    train, validation : sequence of Example
    seed : int
    scratch, cache : Path or None
        Below `folder` where they are not given. A cache that contexts share is filled once.
    say : callable or None
        Told the number of steps done.
    """

    folder: Path
    train: Sequence[Example] = ()
    validation: Sequence[Example] = ()
    seed: int = 0
    scratch: Path = None  # type: ignore[assignment]
    cache: Path | None = None
    say: Callable[[float], None] | None = None
    teacher: Candidate | None = field(default=None, init=False)
    reference: Candidate | None = field(default=None, init=False)
    recorded: dict[str, Any] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Make the folders."""
        self.scratch = self.scratch or self.folder / "scratch"
        for place in (self.folder, self.scratch):
            place.mkdir(parents=True, exist_ok=True)

    def measure(self, candidates: Sequence[Candidate]) -> list[tuple[Measurement, ...]]:
        """Refuse: stages that decide by timing need a whole run."""
        raise RuntimeError(f"{len(candidates)} models cannot be timed outside a run")

    def target(self, name: str) -> Any:
        """Refuse: a target is opened by a whole run."""
        raise RuntimeError(f"{name} cannot be opened outside a run")

    def cached(self, key: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """Build once per key, in the cache."""
        folder = (self.cache or self.folder / "cache") / json_digest(key)
        if not folder.is_dir():
            folder.mkdir(parents=True)
            build(folder)
        return folder

    def progress(self, done: float, total: float, what: str = "") -> None:  # noqa: ARG002
        """Pass on how many steps are done."""
        if self.say is not None:
            self.say(done)
