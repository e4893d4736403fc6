"""What a stage is given beside the candidate: the one `Context`, whoever applies the stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edgecompress.errors import StageError
from edgecompress.values import Candidate, Example, Measurement

Measure = Callable[[Sequence[Candidate]], list[tuple[Measurement, ...]]]
Cached = Callable[[Mapping[str, Any], Callable[[Path], None]], Path]


class Progress(Protocol):
    """Says how far a stage is."""

    def __call__(self, done: float, total: float, what: str = "") -> None:
        """Tell that `done` of `total` is done; `what` is short, such as ``epoch 2 of 6``."""
        ...


def not_here(what: object) -> Any:  # noqa: ARG001
    """Refuse to measure."""
    raise StageError("this stage is applied where nothing can be measured")


def _silent(done: float, total: float, what: str = "") -> None:
    pass


@dataclass(frozen=True)
class Context:
    """What a stage is given beside the candidate.

    Attributes
    ----------
    folder : Path
        New and empty; the stage writes its model into ``folder/"model"`` (and a changed
        preprocessor into ``folder/"preprocessor"``).
    scratch : Path
        Kept when the process is killed: what a stage saves here it can resume from.
    cached : callable
        ``cached(key, build)`` gives the folder that ``build(folder)`` fills, made once per `key`
        (JSON) over all runs. Put digests of every input into `key`. Used for teacher outputs.
    seed : int
    train, validation : sequence of Example
        The only splits that a stage may see.
    teacher : Candidate or None
        The untouched teacher, a `TorchModel`.
    reference : Candidate or None
        The teacher's fp32 export (an `OnnxModel`): what ratios are measured against. Only
        observers are given it.
    measure : callable
        Times ONNX candidates interleaved in one job on this machine. Gives for each of them
        ``latency_p50``, ``latency_p90``, ``latency_p99`` (ms) and ``speedup`` (``x``: the first
        candidate's time over this one's, with its interval).
    target : callable
        Gives the open target (an `edgecompress.targets.Target`) that the recipe calls so.
    progress : Progress
        Told how far the stage is.
    whole : (Candidate, str), optional
        Where the candidate is a part of a model: the model of all parts, and the part's name.
    """

    folder: Path
    scratch: Path
    cached: Cached
    seed: int = 0
    train: Sequence[Example] = ()
    validation: Sequence[Example] = ()
    teacher: Candidate | None = None
    reference: Candidate | None = None
    measure: Measure = not_here
    target: Callable[[str], Any] = not_here
    progress: Progress = _silent
    whole: tuple[Candidate, str] | None = None
