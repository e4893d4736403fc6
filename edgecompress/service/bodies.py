"""Reads the bodies of requests: bounded in bytes, in time, and in what they hold together."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

from starlette.requests import Request

from edgecompress.service.limits import Limits
from edgecompress.service.questions import RefusedError


@dataclass(eq=False, slots=True)
class _Reading:
    client: str
    deadline: asyncio.Timeout
    held_bytes: int = 0
    given_up: bool = False


class Bodies:
    """The bodies that are being read.

    A body must be there within `Limits.read_timeout_s`, and within `Limits.timeout_s`. Together
    they may hold as much as the queue would (`Limits.max_queue` × `Limits.max_body_bytes`); beyond,
    the client that holds most loses its oldest. So bodies that never end cost whoever sends them,
    and nobody else.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._most_bytes = limits.max_queue * limits.max_body_bytes
        self._open: dict[_Reading, None] = {}  # in the order in which they began

    async def read(self, request: Request, client: str) -> bytes:
        """Give a request's body.

        Raises
        ------
        RefusedError
            413 beyond a limit, 408 when it does not arrive in time.
        """
        limits = self._limits
        most, seconds = limits.max_body_bytes, min(limits.read_timeout_s, limits.timeout_s)
        refused = RefusedError(413, f"the body is larger than {most} bytes; send less at once")
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > most:
            raise refused
        body = bytearray()
        reading: _Reading | None = None
        try:
            async with asyncio.timeout(seconds) as deadline:
                reading = _Reading(client, deadline)
                self._open[reading] = None
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        raise refused
                    reading.held_bytes = len(body)
                    self._make_room()
        except TimeoutError:
            raise RefusedError(
                408, f"the body did not arrive within {seconds:g} s, or as long as there was room"
            ) from None
        finally:
            if reading is not None:
                self._open.pop(reading, None)
        return bytes(body)

    def hurry(self, seconds: float) -> None:
        """Give what is being read so many seconds more: the service stops."""
        until = asyncio.get_running_loop().time() + seconds
        for reading in self._open:
            when = reading.deadline.when()
            reading.deadline.reschedule(until if when is None else min(when, until))

    def _make_room(self) -> None:
        kept = [reading for reading in self._open if not reading.given_up]
        while sum(reading.held_bytes for reading in kept) > self._most_bytes:
            held = Counter[str]()
            for reading in kept:
                held[reading.client] += reading.held_bytes
            [(client, _)] = held.most_common(1)
            oldest = next(one for one in kept if one.client == client)
            oldest.given_up = True
            oldest.deadline.reschedule(asyncio.get_running_loop().time())
            kept.remove(oldest)
