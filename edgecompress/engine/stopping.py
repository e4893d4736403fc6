"""When a run tries no further candidate: its time is over, or a person has interrupted it."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from edgecompress.results import Row


class OutOfTimeError(KeyboardInterrupt):
    """The time for the search is over; no stage takes it for a fault of its own."""


class Search:
    """Whether a run goes on to try candidates.

    It ends only when a candidate stands already: before, an interruption ends the run itself, and
    the time limit waits for the first one.

    Parameters
    ----------
    limit_s : float, optional
        Seconds from now on after which nothing further is tried, and what is under way is left.
    best_so_far : bool
        Whether an interruption ends the search alone, and not the run.
    """

    def __init__(self, limit_s: float | None = None, *, best_so_far: bool = False) -> None:
        self._limit = limit_s
        self._end = time.monotonic() + (math.inf if limit_s is None else limit_s)
        self._best_so_far = best_so_far
        self.stands = False
        """Whether a candidate is finished."""
        self.reason = ""
        """Why the search ended; empty while it goes on."""

    def check(self) -> None:
        """Leave the candidate under way where the time is over.

        Raises
        ------
        OutOfTimeError
        """
        if self._late():
            raise OutOfTimeError

    def goes_on(self) -> bool:
        """Say whether another candidate is tried."""
        if not self.reason and self._late():
            self.reason = self._over()
        return not self.reason

    def ended_by(self, stop: KeyboardInterrupt) -> bool:
        """Say whether an interruption ends the search alone; the reason is kept."""
        if isinstance(stop, OutOfTimeError):
            self.reason = self._over()
        elif self._best_so_far and self.stands:
            self.reason = "interrupted"
        return bool(self.reason)

    def left_out(self, row: Row) -> Row:
        """Give the row of a candidate that was not tried, or not to its end."""
        return replace(row, tried=False, error=f"left out: {self.reason}")

    def _late(self) -> bool:
        return self.stands and time.monotonic() > self._end

    def _over(self) -> str:
        return f"the time of {self._limit:g} s was over"
