"""The queue: order, limits, who leaves it, and what a failing model does to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from queueing import Model, asked, taken, texts, with_batcher

from edgecompress.errors import DataError
from edgecompress.service.answering import answerer
from edgecompress.service.batching import Batcher, ModelFailedError, QueueFullError
from edgecompress.service.questions import Question


def test_what_waits_is_taken_together_in_order() -> None:
    async def test(batcher: Batcher, model: Model) -> None:
        model.gate.clear()
        first = await asked(batcher, "a")
        await taken(model, 1)
        others = [await asked(batcher, *found) for found in (("b",), ("c", "d"), ("e", "f"))]
        assert (batcher.waiting, batcher.room) == (5, 3)
        model.gate.set()
        assert [await task for task in (first, *others)] == [["A"], ["B"], ["C", "D"], ["E", "F"]]
        assert model.batches == [["a"], ["b", "c", "d", "e"], ["f"]]

    with_batcher(test)


def test_a_batch_waits_for_others_only_so_long() -> None:
    async def test(batcher: Batcher, model: Model) -> None:
        tasks = [await asked(batcher, text) for text in "abc"]
        await asyncio.sleep(0.05)
        assert model.batches == []
        tasks.append(await asked(batcher, "d"))  # the batch is full: it goes at once
        assert [await task for task in tasks] == [["A"], ["B"], ["C"], ["D"]]
        assert model.batches == [["a", "b", "c", "d"]]
        assert await batcher.ask(texts("e")) == ["E"]  # and alone, when its time is over

    with_batcher(test, max_delay_s=0.5)


def test_beyond_the_limit_nothing_is_taken_in() -> None:
    async def test(batcher: Batcher, model: Model) -> None:
        model.gate.clear()
        first = await asked(batcher, "a")
        await taken(model, 1)
        waiting = await asked(batcher, *"bcdefgh")
        with pytest.raises(QueueFullError):
            await batcher.ask(texts("i", "j"))
        last = await asked(batcher, "i")
        assert batcher.room == 0
        model.gate.set()
        assert await first == ["A"]
        assert await waiting == list("BCDEFGH")
        assert await last == ["I"]

    with_batcher(test)


def test_who_is_cancelled_leaves_the_queue() -> None:
    async def test(batcher: Batcher, model: Model) -> None:
        model.gate.clear()
        first = await asked(batcher, "a", "b")
        await taken(model, 1)
        second, third = await asked(batcher, "c", "d"), await asked(batcher, "e")
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert batcher.waiting == 1
        model.gate.set()
        assert await third == ["E"]
        assert model.batches == [["a", "b"], ["e"]]

    with_batcher(test)


def test_a_failure_is_told_and_the_next_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    async def test(batcher: Batcher, model: Model) -> None:
        good, bad, last = await batcher.ask(texts("a", "fail", "b"))
        assert good == "A"
        assert isinstance(bad, ModelFailedError)
        assert isinstance(last, ModelFailedError)
        assert batcher.alive
        assert await batcher.ask(texts("c")) == ["C"]

    with_batcher(test)
    assert "as a library might" in caplog.text


def test_workers_answer_at_the_same_time() -> None:
    async def test(batcher: Batcher, model: Model) -> None:
        model.gate.clear()
        first = await asked(batcher, "a")
        await taken(model, 1)
        second = await asked(batcher, "b")
        await taken(model, 2)
        model.gate.set()
        assert [await first, await second] == [["A"], ["B"]]

    with_batcher(test, workers=2)


def test_batches_are_counted() -> None:
    counted: list[int] = []

    async def test(batcher: Batcher, model: Model) -> None:
        await batcher.ask(texts(*"abcdef"))
        await batcher.ask([])
        while sum(counted) < 6:
            await asyncio.sleep(0.001)

    with_batcher(test, on_batch=lambda count, seconds: counted.append(count))
    assert counted == [4, 2]


class Bundle:
    """A predictor that knows what it was asked together."""

    def __init__(self, batch: int) -> None:
        self.batch, self.calls = batch, []

    def _answer(self, item: Any) -> str:
        if item.get("text") == "bad":
            raise DataError("not valid")
        return f"<{item.get('text') or item['words']}>"

    def stream(self, items: Any) -> Iterator[str]:
        found = list(items)
        self.calls.append(found)
        for item in found:
            yield self._answer(item)

    def answer(self, item: Any) -> str:
        self.calls.append(item)
        return self._answer(item)


@pytest.mark.parametrize("batch", [1, 8])
def test_questions_go_together_only_where_that_is_safe(batch: int) -> None:
    bundle = Bundle(batch)
    questions = [*texts("a", "b"), Question({"words": ["c", "d"]})]
    answers = dict(answerer(bundle)(questions))  # type: ignore[arg-type]
    assert list(answers.values()) == ["<a>", "<b>", "<['c', 'd']>"]
    asked = [{"text": "a"}, {"text": "b"}, {"words": ["c", "d"]}]
    assert bundle.calls == ([asked] if batch > 1 else asked)


@pytest.mark.parametrize("batch", [1, 8])
def test_one_bad_question_is_its_own_affair(batch: int) -> None:
    answers = dict(answerer(Bundle(batch))(texts("a", "bad", "b")))  # type: ignore[arg-type]
    assert (answers[0], answers[2]) == ("<a>", "<b>")
    assert isinstance(answers[1], DataError)
