"""The frozen values that a matrix's reports are drawn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgecompress.results import RunResult

State = Literal["finished", "failed", "waiting"]

SEED = "seed"
"""The axis whose values are repetitions: what is shown is the median over them."""


@dataclass(frozen=True, slots=True)
class CellResult:
    """One cell as it stands.

    Attributes
    ----------
    name : str
        Also its folder in the output.
    values : mapping
        Its value on each axis.
    state : str
        ``finished``, ``failed`` or ``waiting`` (not run yet, or stopped on the way).
    seconds : float
        Time spent on it so far, all attempts together.
    cpu_seconds : float
        Processor time of it, which says more where other work shares the machine.
    reason : str or None
        Why it failed.
    result : RunResult or None
        What it found, where it is finished.
    """

    name: str
    values: Mapping[str, str | int | float | bool]
    state: State = "waiting"
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    reason: str | None = None
    result: RunResult | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class MatrixResult:
    """A matrix with the state and the results of all its cells."""

    name: str
    axes: Mapping[str, tuple[str | int | float | bool, ...]]
    constants: Mapping[str, str | int | float | bool]
    cells: tuple[CellResult, ...]
    command: str = ""

    def of(self, state: State) -> tuple[CellResult, ...]:
        """Give the cells in a state."""
        return tuple(cell for cell in self.cells if cell.state == state)

    @property
    def remaining_seconds(self) -> float | None:
        """Estimate of what the waiting cells take: as long as the finished ones on average.

        What a stopped cell has done already is taken off. None before any cell is finished.
        """
        finished = self.of("finished")
        if not finished:
            return None
        mean = sum(cell.seconds for cell in finished) / len(finished)
        return sum(max(mean - cell.seconds, 0.0) for cell in self.of("waiting"))
