"""The socket, the web server, and the way down: stop accepting, answer what was accepted, end."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgecompress.errors import EdgeCompressError

if TYPE_CHECKING:
    import uvicorn

    from edgecompress.runtime import Predictor
    from edgecompress.service.app import Served, Service

BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted."""

_LINGER_S = 0.5  # how long an idle connection may still bring a request that is on its way
_TICK_S = 0.02
_ROUNDS = 5  # of the event loop: to see a connection, accept it, and begin to read from it
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Stopped:
    """How a service ended.

    Attributes
    ----------
    answered : int
        Requests to ``/predict`` that got an answer, refusals included.
    unanswered : int
        Requests that were accepted and had no answer when the grace was over; they got 503.
    """

    answered: int
    unanswered: int


def bind(host: str, port: int) -> socket.socket:
    """Take the address, without listening yet: whoever asks is refused until the model is loaded.

    Raises
    ------
    EdgeCompressError
        When there is no such address, it is taken, or it is not ours to take.
    """
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        )
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise EdgeCompressError(
            f"--host {host}: {reason}; give an address of this machine"
        ) from None
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        # Connections of the service before this one may still be closing.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _taken(host, port, error) from None
    return listener


def _taken(host: str, port: int, error: OSError) -> EdgeCompressError:
    return EdgeCompressError(
        f"{host} port {port}: {error.strerror}; choose another with --port, or 0 for any free one"
    )


def served(bundle: Path, predictor: Predictor) -> Served:
    """Say what a bundle is, for ``/health`` and ``/metrics``."""
    from edgecompress import __version__
    from edgecompress.bundle.digests import core_digest
    from edgecompress.service.app import Served

    manifest = predictor.manifest
    return Served(manifest.name, str(manifest.task), core_digest(bundle), __version__)


def run(service: Service, listener: socket.socket, announce: Callable[[str], None]) -> Stopped:
    """Serve until SIGTERM or SIGINT; then answer what was accepted, for the grace at most.

    Parameters
    ----------
    service : Service
    listener : socket
        From `bind`; closed when this ends.
    announce : callable
        Told the address once connections are accepted.

    Raises
    ------
    EdgeCompressError
        When another process began to listen on the address meanwhile.
    """
    import uvicorn

    from edgecompress.service.connections import Seldom

    host, port = listener.getsockname()[:2]
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _taken(host, port, error) from None
    config = uvicorn.Config(
        service.app(),
        http=service.connections.protocol(),
        loop="asyncio",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,  # the log is the process's own: warnings and errors go to stderr
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=math.ceil(service.limits.grace_s),
    )
    logging.getLogger("uvicorn.error").addFilter(Seldom())
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return asyncio.run(_serve(uvicorn.Server(config), service, listener, lambda: announce(address)))


async def _serve(
    server: uvicorn.Server,
    service: Service,
    listener: socket.socket,
    announce: Callable[[], None],
) -> Stopped:
    loop, stop, hurry = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def told_to_stop() -> None:
        if stop.is_set():  # a second Ctrl-C: do not wait for anything
            hurry.set()
        stop.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, told_to_stop)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(_TICK_S)
    # uvicorn put handlers of its own, which would close idle connections at once: a request that
    # is on its way on one of them would be lost. Ours come back.
    for number in _SIGNALS:
        loop.add_signal_handler(number, told_to_stop)
    if not serving.done():
        announce()
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    stopped = Stopped(service.answered, 0)
    if not serving.done():
        stopped = await _drain(server, service, hurry)
    await serving
    return stopped


async def _drain(server: uvicorn.Server, service: Service, hurry: asyncio.Event) -> Stopped:
    """Stop accepting, wait for the answers, and let the server end.

    Requests that still arrive on open connections are answered too, and every answer now ends its
    connection. So a client that asks one request after the other loses none; what is left are
    connections on which nothing happens.
    """
    service.stop()
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)  # connections that the kernel has already are accepted meanwhile
    for accepting in server.servers:
        accepting.close()
    began = time.monotonic()
    until = began + service.limits.grace_s
    while (now := time.monotonic()) < until and not hurry.is_set():
        quiet = now - max(began, service.changed_at) >= _LINGER_S
        if not service.in_flight and (quiet or not server.server_state.connections):
            break
        await asyncio.sleep(_TICK_S)
    stopped = Stopped(service.answered, service.in_flight)
    # What is left then are answers on their way out.
    server.config.timeout_graceful_shutdown = max(1, math.ceil(until - time.monotonic()))
    if stopped.unanswered:
        # uvicorn cancels what is left, and the application turns that into 503: no news for a log.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        server.config.timeout_graceful_shutdown = 0
    server.should_exit = True
    return stopped
