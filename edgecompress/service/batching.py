"""The bounded queue in front of a model, and the threads that answer from it.

The queue is fair to clients, not to texts: whoever has had least work done is next (`fair.py`), and
in a full queue the client that holds most of it gives way to one that holds less.

Everything but the inference itself happens on the event loop, so the queue needs no lock. A worker
takes what waits, up to a limit; ONNX Runtime lets go of Python's lock while it computes, so the
loop goes on reading requests meanwhile. Every answer goes back as soon as it is there, not when
the last of its batch is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from edgecompress.service.fair import Line, Lines
from edgecompress.service.questions import Question

Outcome = Any
"""A Prediction, or the error that a question met: handed back, not raised, as others go on."""

Answer = Callable[[Sequence[Question]], Iterator[tuple[int, Outcome]]]
"""Answers questions, in any order, each with its place; called in a worker's thread."""

_MAX_CHARACTERS = 20_000
"""Most characters that a worker takes at once, beyond the first text: others wait for all of it."""

_LONG = 4_000
"""Characters of a text that holds a worker up for longer than `_COME_BACK_S`."""

_COME_BACK_S = 0.02
"""How long a worker waits for who was just answered to ask again, before it begins a long text of
one who has had more. A client that asks one text after the other has nothing in the queue at that
moment, and would wait for a whole long text each time. Disk schedulers do the same (Iyer and
Druschel, Anticipatory scheduling, 2001)."""

_log = logging.getLogger(__name__)


class QueueFullError(Exception):
    """No room for so many questions now."""


class ModelFailedError(Exception):
    """The model failed for a reason that is in the log."""


@dataclass(eq=False, slots=True)
class _Job:
    question: Question
    client: str
    arrived: float
    future: asyncio.Future[Outcome] = field(repr=False)

    @property
    def size(self) -> int:
        return self.question.characters


class Batcher:
    """Questions in, outcomes out; those of one client in the order in which they came.

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
        self._waiting: Lines[_Job] = Lines()
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

    def admits(self, client: str, count: int = 1) -> bool:
        """Whether so many more questions of a client fit, at the cost of one that holds more."""
        if count <= self.room:
            return True
        longest, mine = self._waiting.longest(), self._waiting.held_by(client)
        return longest is not None and longest.held > mine + count

    async def ask(self, questions: Sequence[Question], client: str = "") -> list[Outcome]:
        """Wait for the outcomes; a caller that is cancelled leaves the queue.

        Raises
        ------
        QueueFullError
            When they do not all fit, or when they had to leave for a client that held less.
        """
        while len(questions) > self.room:
            longest = self._waiting.longest()
            if longest is None or not self.admits(client, len(questions)):
                raise QueueFullError
            self._drop_newest(longest)
        loop = asyncio.get_running_loop()
        jobs = [_Job(question, client, loop.time(), loop.create_future()) for question in questions]
        self._waiting.join(client, jobs)
        self._arrived.set()
        try:
            outcomes = [await job.future for job in jobs]
        except asyncio.CancelledError:
            for job in jobs:
                job.future.cancel()  # a worker that has it already skips it
            self._waiting.leave(client, jobs)
            raise
        for outcome in outcomes:
            if isinstance(outcome, QueueFullError):
                raise outcome
        return outcomes

    def _drop_newest(self, line: Line[_Job]) -> None:
        """Refuse what is left of the last request of a line."""
        for job in self._waiting.drop_newest(line):
            _settle(job, QueueFullError())

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
            await loop.run_in_executor(self._threads, self._run, batch, loop)
            await self._let_come_back(batch)

    async def _let_come_back(self, answered: Sequence[_Job]) -> None:
        """Wait for those whom a long text would hold up, though they have had less."""
        until = asyncio.get_running_loop().time() + _COME_BACK_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                while self._holds_up(answered):
                    self._arrived.clear()
                    await self._arrived.wait()

    def _holds_up(self, answered: Sequence[_Job]) -> bool:
        """Whether what is next is long, and of a client who has had more than one of these."""
        job = self._waiting.next()
        if job is None or job.size < _LONG:
            return False
        return any(self._waiting.is_behind(client) for client in {one.client for one in answered})

    async def _collect(self) -> list[_Job]:
        """Wait for the first question, then for others until the batch or its time is full."""
        while not len(self._waiting):
            self._arrived.clear()
            await self._arrived.wait()
        batch = self._take(self._max_batch)
        while self._max_delay_s and len(batch) < self._max_batch:
            if not len(self._waiting):
                self._arrived.clear()
                try:
                    async with asyncio.timeout_at(batch[0].arrived + self._max_delay_s):
                        await self._arrived.wait()
                except TimeoutError:
                    break
            more = self._take(self._max_batch - len(batch), sum(job.size for job in batch))
            if not more:
                break
            batch += more
        return batch

    def _take(self, most: int, held: int = 0) -> list[_Job]:
        """Take up to `most` questions, to go with others of `held` characters."""
        taken: list[_Job] = []
        while len(taken) < most and (job := self._waiting.next()) is not None:
            if (taken or held) and held + job.size > _MAX_CHARACTERS:
                break
            if self._holds_up(taken):
                break
            taken.append(self._waiting.take())
            held += job.size
        return taken

    def _run(self, batch: Sequence[_Job], loop: asyncio.AbstractEventLoop) -> None:
        """Answer, in a thread; nothing may leave it, or the worker would be gone."""
        start = time.monotonic()

        def count() -> None:
            """Before the last answer leaves: who has it finds its batch in the metrics."""
            loop.call_soon_threadsafe(self._on_batch, len(batch), time.monotonic() - start)

        wanted = [job for job in batch if not job.future.done()]
        left = set(range(len(wanted)))
        try:
            for place, outcome in self._answer([job.question for job in wanted]):
                left.discard(place)
                if not left:
                    count()
                loop.call_soon_threadsafe(_settle, wanted[place], outcome)
        except Exception:  # noqa: BLE001 - a library's fault: the service must outlive it
            _log.exception("a batch failed")
        if left or not wanted:
            count()
        for place in left:
            loop.call_soon_threadsafe(_settle, wanted[place], ModelFailedError())


def _settle(job: _Job, outcome: Outcome) -> None:
    if not job.future.done():
        job.future.set_result(outcome)
