"""A bundle behind HTTP: questions in, answers, health and metrics out; the extra ``serve``.

::

    limits.py      what a client may ask for and for how long, as one frozen value
    questions.py   a request's body → questions, or a refusal in one sentence
    connections.py how many connections, how long one may be silent, which one makes room
    bodies.py      a request's body, bounded in bytes and time
    fair.py        lines of clients: who has had least work done is next
    batching.py    the bounded queue, and the threads that answer from it
    metrics.py     counters in Prometheus form
    app.py         the ASGI application (starlette)
    server.py      the socket, uvicorn, and the way down after SIGTERM

Nothing here decides what a text means: answers are those of `edgecompress.runtime.Predictor`.
"""

from __future__ import annotations

from edgecompress.errors import MissingExtraError
from edgecompress.service.limits import Limits

__all__ = ["Limits", "require"]


def require() -> None:
    """Check that the packages of the extra ``serve`` are there.

    Raises
    ------
    MissingExtraError
        Naming the first that is not, and the pip line.
    """
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "starlette", "serve") from None
