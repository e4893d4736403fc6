"""An answer as server-sent events: a piece each, and then the whole.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

from starlette.requests import ClientDisconnect

from edgecompress.service.questions import Question, RefusedError

Ask = Callable[[Question], Awaitable[Any]]


async def events(question: Question, ask: Ask, say: Callable[[Any], Any]) -> AsyncIterator[bytes]:
    """Give the events of one question.

    Parameters
    ----------
    question : Question
    ask : callable
        Waits for the outcome of a question.
    say : callable
        Gives an outcome as JSON, or raises `RefusedError`.
    """
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[str | None] = asyncio.Queue()
    listening = True

    def heard(piece: str) -> bool:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody listens
            loop.call_soon_threadsafe(pieces.put_nowait, piece)
        return listening

    waiting = asyncio.ensure_future(ask(replace(question, heard=heard)))
    waiting.add_done_callback(lambda _: pieces.put_nowait(None))
    try:
        while (piece := await pieces.get()) is not None:
            yield _event({"piece": piece})
        try:
            yield _event(say(waiting.result()), "end")
        except ClientDisconnect:
            return
        except RefusedError as refused:
            yield _event({"error": refused.sentence}, "error")
    finally:
        listening = False
        waiting.cancel()


def _event(document: Any, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(document, ensure_ascii=False)}\n\n".encode()
