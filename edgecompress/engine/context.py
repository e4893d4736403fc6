"""What the pipeline hands to a stage beside the candidate: folders, examples, targets, a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecompress.data.overlap import Overlap
from edgecompress.progress import Reporter
from edgecompress.store import Store
from edgecompress.targets import Target, open_target
from edgecompress.training.together import cached
from edgecompress.values import Candidate, Example, Json, Measurement


@dataclass(frozen=True, slots=True)
class Splits:
    """The examples that stages may see, with a digest of each split.

    `overlaps` says which texts stand in two splits, test among them.
    """

    train: tuple[Example, ...] = ()
    validation: tuple[Example, ...] = ()
    digests: tuple[tuple[str, str], ...] = ()
    overlaps: tuple[Overlap, ...] = ()


@dataclass
class StageContext:
    """The `Context` that the pipeline hands to a stage."""

    folder: Path
    scratch: Path
    seed: int
    train: Sequence[Example]
    validation: Sequence[Example]
    teacher: Candidate | None
    reference: Candidate | None
    recorded: Json | None
    store: Store
    reporter: Reporter
    timing: Mapping[str, Any]
    targets: Mapping[str, Target]

    def measure(self, candidates: Sequence[Candidate]) -> list[tuple[Measurement, ...]]:
        """Time ONNX candidates interleaved on this machine, on validation examples."""
        from edgecompress.targets.measure import time_interleaved

        return time_interleaved(candidates, self.validation, **self.timing)

    def target(self, name: str) -> Target:
        """Give the open target that the recipe calls `name`; this machine is always there."""
        return self.targets[name] if name in self.targets else open_target(name)

    def cached(self, key: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
        """Give the folder that `build` fills, made once per `key`."""
        return cached(self.store, key, build)

    def progress(self, done: float, total: float, what: str = "") -> None:
        """Pass progress on to the reporter."""
        self.reporter.advance(done, total, what)
