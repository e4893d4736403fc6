"""The one thread of this process in which all SSH connections live."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_guard = threading.Lock()
_loops: dict[int, tuple[asyncio.AbstractEventLoop, threading.Thread]] = {}  # by process


def _loop() -> asyncio.AbstractEventLoop:
    """Give this process's event loop, started by the first who asks; a fork gets its own."""
    with _guard:
        found = _loops.get(os.getpid())
        if found is None or not found[1].is_alive():
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever, name="ssh", daemon=True)
            thread.start()
            found = loop, thread
            _loops.clear()
            _loops[os.getpid()] = found
        return found[0]


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` in the loop's thread and wait for it.

    An interrupt of the waiting thread (Ctrl-C) cancels the work, and waits for its clean-up.
    """
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        if not future.done():
            future.cancel()
            with contextlib.suppress(concurrent.futures.CancelledError, TimeoutError):
                asyncio.run_coroutine_threadsafe(_settled(), _loop()).result(timeout=10)
        raise


async def _settled() -> None:
    """Wait until no job is in its clean-up: all tasks that were cancelled have ended."""
    tasks = [task for task in asyncio.all_tasks() if task.cancelling()]
    await asyncio.wait(tasks, timeout=8) if tasks else None


@atexit.register
def _stop() -> None:
    found = _loops.pop(os.getpid(), None)
    if found is None:
        return
    loop, thread = found

    async def end() -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await loop.shutdown_asyncgens()

    with contextlib.suppress(TimeoutError, concurrent.futures.CancelledError):
        asyncio.run_coroutine_threadsafe(end(), loop).result(timeout=5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=5)
    if not thread.is_alive():
        loop.close()
