"""Connections: how many there may be, how long one may say nothing, and which one makes room.

uvicorn closes a connection that is idle after an answer, and no other: one that never says anything
stays for ever, and beyond its limit everybody is refused. Here a request's head must arrive within
`Limits.read_timeout_s`, an answer must be taken, and a new connection beyond
`Limits.max_connections` takes the place of one that its client left waiting.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import resource
from collections import Counter
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

from edgecompress.service.limits import Limits
from edgecompress.service.metrics import Metrics

_FILES_LEFT = 64
"""Open files that are no connections: the model, the log, the listening socket, the loop's own."""

_FULL = (
    b'{"error": "too many connections are being answered; ask again in 1 s"}',
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n",
)
_LATE = (
    b'{"error": "the request did not arrive in time"}',
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n",
)


class Connections:
    """The open connections of one service.

    Parameters
    ----------
    limits : Limits
    metrics : Metrics
        Counts what is closed, and why.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits, self.metrics = limits, metrics
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.most = limits.max_connections
        if files != resource.RLIM_INFINITY:
            self.most = max(1, min(self.most, files - _FILES_LEFT))
        self._open: dict[Connection, None] = {}  # in the order in which they came

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, new: Connection) -> bool:
        """Count a connection in; where there is no room, close one that waits for its client.

        It is one of the client that has most of them, and of these the one that has waited longest.
        A connection whose request is being answered is never closed.
        """
        if len(self._open) >= self.most:
            waiting = [connection for connection in self._open if connection.waits_for_client]
            if not waiting:
                self.metrics.closed.labels("no room").inc()
                return False
            held = Counter(connection.peer for connection in self._open)
            victim = max(waiting, key=lambda one: (held[one.peer], -one.waits_since))
            self.leave(victim)
            self.metrics.closed.labels("made room").inc()
            victim.transport.abort()
        self._open[new] = None
        return True

    def leave(self, connection: Connection) -> None:
        """Count a connection out; more than once does no harm."""
        self._open.pop(connection, None)

    def protocol(self) -> type[Connection]:
        """Give the class of which uvicorn makes one for every connection."""
        return type("Connection", (Connection,), {"all": self})


class Connection(H11Protocol):
    """One connection, with a clock for what its client must do.

    Attributes
    ----------
    peer : str
        The address at its other end (a proxy's, behind one).
    waits_since : float
        When the client's turn began: when it connected, or got its last answer.
    """

    all: ClassVar[Connections]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or say at once that there is no room."""
        super().connection_made(transport)
        self.peer = client_name(self.client[0] if self.client else "")
        self.waits_since = self.loop.time()
        self._clock: asyncio.TimerHandle | None = None
        self._unsent = 0
        if self.all.admit(self):
            self._start_clock()
        else:
            self._say(_FULL)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self.all.leave(self)
        self._stop_clock()
        super().connection_lost(exc)

    @property
    def waits_for_client(self) -> bool:
        """Whether it is the client's turn: to ask, to end its request, or to read the answer."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def data_received(self, data: bytes) -> None:
        """Read on, and mind the time while a request's head is not whole."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        asked = self.cycle is not None and not self.cycle.response_complete
        if asked:
            self._stop_clock()  # the application watches over the body
        elif self._clock is None:
            self._start_clock()  # a head that comes in pieces

    def on_response_complete(self) -> None:
        """Wait for the client again."""
        self.waits_since = self.loop.time()
        self._unsent = self.transport.get_write_buffer_size()
        super().on_response_complete()

    def timeout_keep_alive_handler(self) -> None:
        """End a connection on which nothing happens; one that still takes its answer goes on."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent:
            super().timeout_keep_alive_handler()
        elif unsent < self._unsent:
            self._unsent = unsent
            self.timeout_keep_alive_task = self.loop.call_later(
                self.all.limits.read_timeout_s, self.timeout_keep_alive_handler
            )
        else:
            self.all.metrics.closed.labels("answer not read").inc()
            self.transport.abort()

    def _start_clock(self) -> None:
        self._clock = self.loop.call_later(self.all.limits.read_timeout_s, self._late)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _late(self) -> None:
        self.all.metrics.closed.labels("no request").inc()
        if self.conn.trailing_data[0]:
            self._say(_LATE)
        else:
            self.transport.close()

    def _say(self, refusal: tuple[bytes, bytes]) -> None:
        """Write an answer without a request, and end."""
        body, head = refusal
        self.transport.write(head % len(body) + body)
        self.transport.close()


def client_name(address: str) -> str:
    """Give what counts as one client: an address, or the first 64 bits of one of IPv6.

    Whoever has one address of IPv6 usually has all that begin with the same 64 bits.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


class Seldom(logging.Filter):
    """Lets a message through once a minute: what strangers send must not fill the log."""

    def __init__(self, seconds: float = 60.0) -> None:
        super().__init__()
        self._seconds = seconds
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a record is written; one with an exception always is."""
        if record.exc_info:
            return True
        text = str(record.msg)
        if record.created - self._last.get(text, -self._seconds) < self._seconds:
            return False
        self._last[text] = record.created
        return True
