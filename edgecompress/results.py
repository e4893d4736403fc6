"""What a run finds out: limits and verdicts, the rows of its table, and the whole result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edgecompress.values import Json, Measurement, Step

BY = " by "
"""What stands between a limit's name and the kind of slices that it bounds."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One line of a budget: bounds on a metric, at a target where it depends on one.

    `max` and `min` are absolute, in the metric's unit; `max_drop` is how much worse the candidate
    is than the teacher; `max_ratio` and `min_ratio` are the candidate's value over the teacher's.
    With `each` they hold for every slice of that kind (``file``, ``label``) by itself.
    """

    metric: str
    target: str | None = None
    max: float | None = None
    min: float | None = None
    max_drop: float | None = None
    max_ratio: float | None = None
    min_ratio: float | None = None
    each: Literal["file", "label"] | None = None

    @property
    def name(self) -> str:
        """The key that a recipe gives it, such as ``latency_p50@local``."""
        return f"{self.metric}@{self.target}" if self.target else self.metric

    @property
    def key(self) -> str:
        """What its verdict is called: its name and, where it is of slices, ``by file``."""
        return f"{self.name}{BY}{self.each}" if self.each else self.name


FLOOR = "floor"
"""The limit of the verdict on what does not beat the row that answers every example alike."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a candidate keeps a limit (or a whole budget), and why.

    `miss` is how far the value lies beyond the bound, as a share of the bound (0 when it passes).
    """

    limit: str
    state: Literal["pass", "fail", "undecided"]
    reason: str
    miss: float = 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the result: a candidate or a reference, with all that was measured of it.

    `verdicts` holds one entry per limit; `lost` says why a candidate is not the winner; `error`
    why its chain failed, or why it was not `tried` to its end; `stages` measures the candidate
    after each of its stages.
    """

    name: str
    kind: Literal["candidate", "reference"]
    chain: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    error: str | None = None
    verdicts: tuple[Verdict, ...] = ()
    pareto: bool = False
    lost: str | None = None
    tried: bool = True
    stages: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class RunResult:
    """All that a run found out; what ``results.json`` holds and every report is drawn from.

    `floor` names the row that answers every example alike: what a model must beat.
    """

    name: str
    task: str | None
    recipe: Json
    rows: tuple[Row, ...]
    winner: str | None
    verdict: Verdict
    minimize: str
    budget: tuple[Limit, ...]
    environment: Json
    data: Json
    command: str = ""
    format: int = 1
    floor: str | None = None
    started: str = ""
    seconds: float = 0.0
    answers: Json = field(default_factory=dict)
