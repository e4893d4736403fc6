"""The ASGI application: ``/predict``, ``/health`` and ``/metrics``.

Every refusal is a JSON object ``{"error": "one sentence"}``. Refusing costs little: whoever has no
place in the queue is told so before the body is read, a body that is too large before it is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgecompress.errors import DataError, EdgeCompressError
from edgecompress.service.batching import Answer, Batcher, ModelFailedError, QueueFullError
from edgecompress.service.bodies import Bodies
from edgecompress.service.connections import Connections, client_name
from edgecompress.service.limits import Limits
from edgecompress.service.metrics import Metrics
from edgecompress.service.questions import Asked, Question, RefusedError, inputs_of, read_body
from edgecompress.service.streaming import events

PATHS = ("/predict", "/health", "/metrics")
GONE = 499
"""Counted for a client that went away; nothing is sent. The number is nginx's."""

_RETRY_AFTER_S = 1
_LAST_BODIES_S = 1.0  # how long a body may still arrive once the service stops
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """What is served.

    Attributes
    ----------
    name, task : str
        From the bundle's manifest.
    core : str
        SHA-256 of ``core.sha256``: names every byte of the core.
    version : str
        Of edgecompress.
    """

    name: str
    task: str
    core: str
    version: str


class Service:
    """What lives as long as the process: the queue, the counters, and whether it is stopping.

    Attributes
    ----------
    in_flight : int
        Requests to ``/predict`` whose answer has not been sent.
    answered : int
        Requests to ``/predict`` that got an answer, refusals included.
    stopping : bool
        Set on the way down: ``/health`` says so, and every answer ends its connection.
    changed_at : float
        When a request last began or ended, by `time.monotonic`.
    """

    def __init__(
        self,
        served: Served,
        answer: Answer,
        limits: Limits,
        *,
        workers: int = 1,
        together: bool = False,
    ) -> None:
        self.served, self.limits, self.metrics = served, limits, Metrics()
        self.in_flight, self.answered = 0, 0
        self.stopping, self.changed_at = False, time.monotonic()
        self.connections = Connections(limits, self.metrics)
        self._answer, self._workers, self._together = answer, workers, together
        self._bodies = Bodies(limits)
        self._batcher: Batcher | None = None

    def app(self) -> ASGIApp:
        """Build the application; its lifespan runs the workers."""
        inner = Starlette(
            routes=[
                Route("/predict", self._predict, methods=["POST"]),
                Route("/health", self._health, methods=["GET"]),
                Route("/metrics", self._metrics, methods=["GET"]),
            ],
            lifespan=self._lifespan,
            exception_handlers={HTTPException: _http_error},
        )
        inner.router.redirect_slashes = False
        return _Accounting(inner, self)

    def stop(self) -> None:
        """Begin the way down; a body that is still arriving has a moment left."""
        self.stopping = True
        self._bodies.hurry(_LAST_BODIES_S)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self._batcher = batcher = Batcher(
            self._answer,
            max_batch=self.limits.max_batch,
            max_queue=self.limits.max_queue,
            max_delay_s=self.limits.max_delay_ms / 1e3 if self._together else 0.0,
            workers=self._workers,
            on_batch=self._count_batch,
        )
        self.metrics.watch(
            in_flight=lambda: self.in_flight,
            queue=lambda: batcher.waiting,
            connections=lambda: len(self.connections),
            model={
                "name": self.served.name,
                "task": self.served.task,
                "core_sha256": self.served.core,
                "edgecompress": self.served.version,
            },
        )
        yield
        await batcher.close()

    def _count_batch(self, texts: int, seconds: float) -> None:
        self.metrics.batches.observe(texts)
        self.metrics.inference.observe(seconds)

    async def _predict(self, request: Request) -> Response:
        start = time.monotonic()
        client = client_name(request.client.host if request.client else "")
        try:
            asked = await self._read(request, client)
            if asked.stream:
                return self._stream(request, asked.questions[0], client, start)
            outcomes = await self._ask(request, asked, client, start)
            answers = [_answer(outcome) for outcome in outcomes]
        except ClientDisconnect:
            return Response(status_code=GONE)
        except RefusedError as refused:
            return _refusal(refused)
        self.metrics.texts.inc(len(answers))
        self.metrics.latency.observe(time.monotonic() - start)
        return _json({"answers": answers} if asked.several else answers[0])

    def _stream(self, request: Request, question: Question, client: str, start: float) -> Response:
        async def ask(one: Question) -> Any:
            return (await self._ask(request, Asked((one,), several=False), client, start))[0]

        def say(outcome: Any) -> Any:
            answer = _answer(outcome)
            self.metrics.texts.inc()
            self.metrics.latency.observe(time.monotonic() - start)
            return answer

        headers = {"cache-control": "no-store"}
        return StreamingResponse(
            events(question, ask, say), media_type="text/event-stream", headers=headers
        )

    async def _read(self, request: Request, client: str) -> Asked:
        if not self._queue.admits(client):
            raise self._full()
        try:
            body = await self._bodies.read(request, client)
        except RefusedError:
            if self.stopping:
                raise _OVER from None
            raise
        content_type = request.headers.get("content-type", "")
        return read_body(body, self.limits, self.served.task, content_type)

    async def _ask(self, request: Request, asked: Asked, client: str, start: float) -> list[Any]:
        """Wait for the outcomes, until the deadline, and as long as the client does."""
        waiting = asyncio.ensure_future(self._queue.ask(asked.questions, client))
        gone = asyncio.ensure_future(request.receive())  # the body is read: only an end can come
        try:
            await asyncio.wait(
                (waiting, gone),
                timeout=start + self.limits.timeout_s - time.monotonic(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if waiting.done():
                return waiting.result()
            if gone.done():
                raise ClientDisconnect
        except QueueFullError:
            raise self._full() from None
        finally:
            gone.cancel()
            waiting.cancel()
        raise RefusedError(
            504,
            f"no answer within {self.limits.timeout_s:g} s; send less at once, or ask again later",
            retry_after_s=_RETRY_AFTER_S,
        )

    @property
    def _queue(self) -> Batcher:
        if self._batcher is None:
            raise RuntimeError("the application's lifespan has not begun")
        return self._batcher

    def _full(self) -> RefusedError:
        waiting = f"{self.limits.max_queue} {inputs_of(self.served.task)}"
        return RefusedError(
            503,
            f"{waiting} wait already or would, and none of them is of a client that has more "
            f"waiting than this one; ask again in {_RETRY_AFTER_S} s",
            retry_after_s=_RETRY_AFTER_S,
        )

    async def _health(self, _request: Request) -> Response:
        status = "ready" if self._queue.alive else "failed"
        if self.stopping:
            status = "stopping"
        document = {
            "status": status,
            "bundle": self.served.name,
            "task": self.served.task,
            "core_sha256": self.served.core,
            "edgecompress": self.served.version,
        }
        return _json(document, 200 if status == "ready" else 503)

    async def _metrics(self, request: Request) -> Response:
        text, content_type = self.metrics.document(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})


_OVER = RefusedError(
    503,
    "the service stopped before it could answer; ask again",
    retry_after_s=_RETRY_AFTER_S,
)


class _Accounting:
    """Counts requests and ends connections on the way down; everything passes through it."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        service, path, status, begun = self._service, scope["path"], 500, False

        async def counted(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                if service.stopping:
                    MutableHeaders(scope=message)["connection"] = "close"
            if status != GONE:
                await send(message)

        predicts = path == "/predict"
        service.in_flight += predicts
        service.changed_at = time.monotonic()
        try:
            await self._app(scope, receive, counted)
        except asyncio.CancelledError:
            if begun or not service.stopping:
                raise
            await _refusal(_OVER)(scope, receive, counted)  # the grace is over: say so, at least
        finally:
            service.in_flight -= predicts
            service.answered += predicts and status != GONE
            service.changed_at = time.monotonic()
            known = path if path in PATHS else "other"
            service.metrics.requests.labels(known, str(status)).inc()


def _answer(outcome: Any) -> Any:
    """Give an outcome as `edgecompress predict --json` writes it, or refuse."""
    if isinstance(outcome, DataError):
        raise RefusedError(422, str(outcome))
    if isinstance(outcome, EdgeCompressError):
        _log.error("%s", outcome)  # it names files of this machine: for the log alone
    if isinstance(outcome, EdgeCompressError | ModelFailedError):
        raise RefusedError(500, "the model failed on this request; the service's log says why")
    return outcome.to_json()


def _json(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    text = json.dumps(document, ensure_ascii=False).encode()
    return Response(text, status, {"content-type": "application/json", **(headers or {})})


def _refusal(refused: RefusedError) -> Response:
    headers = {}
    if refused.retry_after_s is not None:
        headers["retry-after"] = str(refused.retry_after_s)
    return _json({"error": refused.sentence}, refused.status, headers)


_Handler = Callable[[Request, Exception], Response]


def _http_error(request: Request, error: Exception) -> Response:
    """Say what starlette refuses (an unknown path, another method) in this service's way."""
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    sentence = str(error.detail)
    if error.status_code == 404:
        sentence = (
            f"there is no such path; there are POST {PATHS[0]}, GET {PATHS[1]}, GET {PATHS[2]}"
        )
    elif error.status_code == 405:
        sentence = f"{request.method} is not for this path; use POST for /predict, GET otherwise"
    return _json({"error": sentence}, error.status_code, dict(error.headers or {}))
