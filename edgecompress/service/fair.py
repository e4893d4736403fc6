"""Lines of clients, served by the work that each has had: one who asks much waits for himself.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): a client is served next whose line has had
least work done, where one that comes back joins at what is being served now, plus what it was given
beyond its share before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

_FIXED = 200
"""What any text costs, in characters: a call of the model is not free, however short its text."""

_MOST_DEBTS = 1024  # clients that are remembered while they wait for nothing


class Sized(Protocol):
    """What waits; it knows its size."""

    @property
    def size(self) -> int:
        """Work that it takes, in characters."""
        ...


T = TypeVar("T", bound=Sized)


@dataclass(eq=False, slots=True)
class Line(Generic[T]):
    """What one client has waiting.

    Attributes
    ----------
    served : float
        Work that the line has had done, on the common clock of all lines, in characters.
    groups : deque of deque
        What was asked together, oldest first.
    """

    client: str
    served: float
    groups: deque[deque[T]] = field(default_factory=deque)

    @property
    def held(self) -> int:
        """How many wait."""
        return sum(map(len, self.groups))


class Lines(Generic[T]):
    """All lines; empty ones are forgotten, but for the work that they were given ahead."""

    def __init__(self) -> None:
        self._lines: dict[str, Line[T]] = {}
        self._debts: dict[str, float] = {}
        self._clock = 0.0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def held_by(self, client: str) -> int:
        """How many of a client wait."""
        line = self._lines.get(client)
        return line.held if line else 0

    def longest(self) -> Line[T] | None:
        """Give the line in which most wait."""
        return max(self._lines.values(), key=lambda line: line.held, default=None)

    def join(self, client: str, group: Sequence[T]) -> None:
        """Put what is asked together at the end of its client's line."""
        if not group:
            return
        line = self._lines.get(client)
        if line is None:
            served = max(self._clock, self._debts.pop(client, 0.0))
            line = self._lines[client] = Line(client, served)
        line.groups.append(deque(group))
        self._count += len(group)

    def leave(self, client: str, group: Sequence[T]) -> None:
        """Take out what is left of a group."""
        line = self._lines.get(client)
        if line is None:
            return
        gone = set(map(id, group))
        for waiting in line.groups:
            kept = [one for one in waiting if id(one) not in gone]
            self._count -= len(waiting) - len(kept)
            waiting.clear()
            waiting.extend(kept)
        self._tidy(line)

    def drop_newest(self, line: Line[T]) -> list[T]:
        """Take out the last group of a line, and give it."""
        dropped = list(line.groups.pop())
        self._count -= len(dropped)
        self._tidy(line)
        return dropped

    def next(self) -> T | None:
        """Give what is served next, and leave it there."""
        line = self._next_line()
        return line.groups[0][0] if line else None

    def is_behind(self, client: str) -> bool:
        """Whether a client who has nothing waiting has had less work than who would be next."""
        line = self._next_line()
        if line is None or client in self._lines:
            return False
        return self._debts.get(client, self._clock) < line.served

    def take(self) -> T:
        """Take what is served next."""
        line = self._next_line()
        if line is None:
            raise IndexError("nothing waits")
        taken = line.groups[0].popleft()
        self._count -= 1
        self._clock = line.served
        line.served += taken.size + _FIXED
        self._tidy(line)
        return taken

    def _next_line(self) -> Line[T] | None:
        return min(self._lines.values(), key=lambda line: line.served, default=None)

    def _tidy(self, line: Line[T]) -> None:
        line.groups = deque(group for group in line.groups if group)
        if line.groups:
            return
        del self._lines[line.client]
        if not self._lines:
            self._clock, self._debts = 0.0, {}  # nobody was kept waiting: there is no debt
            return
        if line.served > self._clock:
            self._debts[line.client] = line.served
        if len(self._debts) > _MOST_DEBTS:
            self._debts = {name: at for name, at in self._debts.items() if at > self._clock}
