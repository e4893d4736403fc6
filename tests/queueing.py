"""A queue before a model that can be held up, for the tests of the service."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from edgecompress.service.batching import Batcher
from edgecompress.service.questions import Question


class Model:
    """Answers with the text in capitals; `gate` holds it up, and it remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, questions: Sequence[Question]) -> Iterator[tuple[int, str]]:
        self.batches.append([str(question.asked["text"]) for question in questions])
        for place, question in enumerate(questions):
            assert self.gate.wait(10)
            if question.asked["text"] == "fail":
                raise RuntimeError("as a library might")
            yield place, str(question.asked["text"]).upper()


def texts(*found: str) -> list[Question]:
    return [Question({"text": text}) for text in found]


def with_batcher(
    test: Callable[[Batcher, Model], Coroutine[Any, Any, None]], **options: Any
) -> None:
    async def main() -> None:
        model = Model()
        batcher = Batcher(model, **{"max_batch": 4, "max_queue": 8, **options})
        try:
            await asyncio.wait_for(test(batcher, model), 20)
        finally:
            model.gate.set()
            await batcher.close()

    asyncio.run(main())


async def asked(batcher: Batcher, *found: str) -> asyncio.Task[list[Any]]:
    """Ask in a task, and let it get as far as it goes."""
    return await asked_by(batcher, "", *found)


async def asked_by(batcher: Batcher, client: str, *found: str) -> asyncio.Task[list[Any]]:
    task = asyncio.create_task(batcher.ask(texts(*found), client))
    for _ in range(3):
        await asyncio.sleep(0)
    return task


async def taken(model: Model, batches: int) -> None:
    while len(model.batches) < batches:
        await asyncio.sleep(0.001)
