"""The bounded queue in front of a model, and the threads that answer from it.

Everything but the inference itself happens on the event loop, so the queue needs no lock. A worker
takes what waits, up to a limit; ONNX Runtime lets go of Python's lock while it computes, so the
loop goes on reading requests meanwhile. Every answer goes back as soon as it is there, not when
the last of its batch is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from edgecompress.service.questions import Question

Outcome = Any
"""A Prediction, or the error that a question met: handed back, not raised, as others go on."""

Answer = Callable[[Sequence[Question]], Iterator[tuple[int, Outcome]]]
"""Answers questions, in any order, each with its place; called in a worker's thread."""

_log = logging.getLogger(__name__)


class QueueFullError(Exception):
    """No room for so many questions now."""


class ModelFailedError(Exception):
    """The model failed for a reason that is in the log."""


@dataclass(eq=False, slots=True)
class _Job:
    question: Question
    arrived: float
    future: asyncio.Future[Outcome] = field(repr=False)


class Batcher:
    """Questions in, outcomes out, in the order in which they came.

    Parameters
    ----------
    answer : callable
        See `Answer`.
    max_batch, max_queue : int
        As in `Limits`.
    max_delay_s : float
        How long to wait for a batch to fill, counted from its first question; 0 never waits.
    workers : int
        Threads that answer at the same time.
    on_batch : callable
        Told the number of questions and the seconds of every batch, on the event loop.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        max_batch: int,
        max_queue: int,
        max_delay_s: float = 0.0,
        workers: int = 1,
        on_batch: Callable[[int, float], None] = lambda _texts, _seconds: None,
    ) -> None:
        self._answer, self._on_batch = answer, on_batch
        self._max_batch, self._max_queue, self._max_delay_s = max_batch, max_queue, max_delay_s
        self._waiting: deque[_Job] = deque()
        self._arrived = asyncio.Event()
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="answer")
        self._tasks = [asyncio.create_task(self._work()) for _ in range(workers)]

    @property
    def waiting(self) -> int:
        """Questions that no worker has taken yet."""
        return len(self._waiting)

    @property
    def room(self) -> int:
        """Questions that may join the queue now."""
        return self._max_queue - len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether all workers are there to take questions."""
        return not any(task.done() for task in self._tasks)

    async def ask(self, questions: Sequence[Question]) -> list[Outcome]:
        """Wait for the outcomes; a caller that is cancelled leaves the queue.

        Raises
        ------
        QueueFullError
            When they do not all fit.
        """
        if len(questions) > self.room:
            raise QueueFullError
        loop = asyncio.get_running_loop()
        jobs = [_Job(question, loop.time(), loop.create_future()) for question in questions]
        self._waiting.extend(jobs)
        self._arrived.set()
        try:
            return [await job.future for job in jobs]
        except asyncio.CancelledError:
            for job in jobs:
                job.future.cancel()  # a worker that has it already skips it
                if job in self._waiting:
                    self._waiting.remove(job)
            raise

    async def close(self) -> None:
        """End the workers; a thread that is computing is left to itself."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._collect()
            start = loop.time()
            await loop.run_in_executor(self._threads, self._run, batch, loop)
            self._on_batch(len(batch), loop.time() - start)

    async def _collect(self) -> list[_Job]:
        """Wait for the first question, then for others until the batch or its time is full."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        batch = self._take(self._max_batch)
        while self._max_delay_s and len(batch) < self._max_batch:
            if not self._waiting:
                self._arrived.clear()
                try:
                    async with asyncio.timeout_at(batch[0].arrived + self._max_delay_s):
                        await self._arrived.wait()
                except TimeoutError:
                    break
            batch += self._take(self._max_batch - len(batch))
        return batch

    def _take(self, most: int) -> list[_Job]:
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def _run(self, batch: Sequence[_Job], loop: asyncio.AbstractEventLoop) -> None:
        """Answer, in a thread; nothing may leave it, or the worker would be gone."""
        wanted = [job for job in batch if not job.future.done()]
        left = set(range(len(wanted)))
        try:
            for place, outcome in self._answer([job.question for job in wanted]):
                left.discard(place)
                loop.call_soon_threadsafe(_settle, wanted[place], outcome)
        except Exception:  # noqa: BLE001 - a library's fault: the service must outlive it
            _log.exception("a batch failed")
        for place in left:
            loop.call_soon_threadsafe(_settle, wanted[place], ModelFailedError())


def _settle(job: _Job, outcome: Outcome) -> None:
    if not job.future.done():
        job.future.set_result(outcome)
