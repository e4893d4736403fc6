"""How long work tells the person that it goes on; the terminal draws it, a library stays silent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Reporter(Protocol):
    """What a run tells while it works."""

    def plan(self, sections: Sequence[str]) -> None:
        """Say which sections the whole work has."""
        ...

    def section(self, title: str) -> None:
        """Say what the next pieces of work are for."""
        ...

    def begin(self, title: str) -> None:
        """Say that a piece of work starts."""
        ...

    def advance(self, done: float, total: float, what: str = "") -> None:
        """Say how far the piece under way is."""
        ...

    def end(self, note: str) -> None:
        """Say that the piece under way has ended, and how."""
        ...


class Silent:
    """A reporter that says nothing."""

    def plan(self, sections: Sequence[str]) -> None:
        """Say nothing."""

    def section(self, title: str) -> None:
        """Say nothing."""

    def begin(self, title: str) -> None:
        """Say nothing."""

    def advance(self, done: float, total: float, what: str = "") -> None:
        """Say nothing."""

    def end(self, note: str) -> None:
        """Say nothing."""
