"""Lines of clients: who is next, and who gives way."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from queueing import Model, asked_by, taken, with_batcher

from edgecompress.service.batching import Batcher, QueueFullError
from edgecompress.service.fair import Lines
from edgecompress.service.questions import Question


@dataclass(frozen=True)
class Text:
    client: str
    number: int
    size: int


def drained(lines: Lines[Text]) -> list[Text]:
    found = []
    while len(lines):
        waits = lines.next()
        found.append(lines.take())
        assert waits is found[-1]
    assert lines.next() is None
    return found


@given(
    st.lists(
        st.tuples(st.sampled_from("abcde"), st.lists(st.integers(0, 5000), max_size=5)), max_size=30
    )
)
def test_every_text_once_and_each_client_in_order(
    requests: list[tuple[str, list[int]]],
) -> None:
    lines: Lines[Text] = Lines()
    sent = []
    for client, sizes in requests:
        group = [Text(client, len(sent) + place, size) for place, size in enumerate(sizes)]
        sent += group
        lines.join(client, group)
    assert len(lines) == len(sent)
    found = drained(lines)
    assert sorted(found, key=lambda text: text.number) == sent
    for client in "abcde":
        numbers = [text.number for text in found if text.client == client]
        assert numbers == sorted(numbers)


@given(st.integers(1, 50), st.integers(1, 100_000), st.integers(1, 2000))
def test_short_texts_do_not_wait_for_all_long_ones(many: int, long: int, short: int) -> None:
    lines: Lines[Text] = Lines()
    lines.join("greedy", [Text("greedy", n, long) for n in range(many)])
    lines.join("modest", [Text("modest", 0, short)])
    found = drained(lines)
    assert found.index(Text("modest", 0, short)) <= 1


def test_who_comes_back_is_not_served_before_who_waited() -> None:
    lines: Lines[Text] = Lines()
    lines.join("b", [Text("b", n, 100) for n in range(40)])
    order = []
    for _ in range(20):  # asks a long one, gets it, asks again
        lines.join("a", [Text("a", 0, 2000)])
        while lines.held_by("a"):
            order.append(lines.take().client)
        if len(lines) == 0:
            break
    work = Counter({"a": 2200 * order.count("a"), "b": 300 * order.count("b")})
    assert order.count("b") == 40
    assert abs(work["a"] - work["b"]) <= 2 * 2200 + 300


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 4)), min_size=1, max_size=12))
def test_leaving_and_dropping_keep_the_count(requests: list[tuple[str, int]]) -> None:
    lines: Lines[Text] = Lines()
    groups = [(client, [Text(client, n, 1) for n in range(count)]) for client, count in requests]
    for client, group in groups:
        lines.join(client, group)
    client, gone = groups[0]
    lines.leave(client, gone)
    lines.leave(client, gone)
    longest = lines.longest()
    dropped = lines.drop_newest(longest) if longest else []
    assert len(lines) == sum(count for _, count in requests) - len(gone) - len(dropped)
    assert len(drained(lines)) == sum(count for _, count in requests) - len(gone) - len(dropped)


def test_a_full_queue_makes_room_for_who_holds_less() -> None:
    async def test(batcher: Batcher, model: Model) -> None:
        model.gate.clear()
        running = await asked_by(batcher, "greedy", "x")
        await taken(model, 1)
        first = await asked_by(batcher, "greedy", "a", "b", "c", "d")
        second = await asked_by(batcher, "greedy", "e", "f", "g", "h")
        assert batcher.room == 0
        assert not batcher.admits("greedy")
        assert batcher.admits("modest")
        modest = await asked_by(batcher, "modest", "m")
        with pytest.raises(QueueFullError):
            await second
        with pytest.raises(QueueFullError):
            await (await asked_by(batcher, "greedy", *"12345"))
        model.gate.set()
        assert await asyncio.gather(running, first, modest) == [["X"], list("ABCD"), ["M"]]
        assert model.batches[1][0] == "m" or model.batches[1][1] == "m"

    with_batcher(test)


def test_a_worker_takes_no_more_characters_than_others_should_wait_for() -> None:
    async def test(batcher: Batcher, model: Model) -> None:
        model.gate.clear()
        running = await asked_by(batcher, "a", "x")
        await taken(model, 1)
        rest = await asked_by(batcher, "a", *("y" * 15_000 for _ in range(3)))
        model.gate.set()
        await asyncio.gather(running, rest)
        assert [len(batch) for batch in model.batches] == [1, 1, 1, 1]

    with_batcher(test)


def test_who_asks_one_after_the_other_is_not_held_up_by_long_texts_each_time() -> None:
    """He has nothing in the queue at the moment at which a worker looks for more."""

    async def test(batcher: Batcher, model: Model) -> None:
        model.gate.clear()
        running = await asked_by(batcher, "greedy", "x")
        await taken(model, 1)
        long = await asked_by(batcher, "greedy", *("y" * 8_000 for _ in range(4)))
        first = await asked_by(batcher, "modest", "m")
        model.gate.set()
        await asyncio.gather(running, first)
        for _ in range(19):
            await batcher.ask([Question({"text": "m"})], "modest")
        assert await long == ["Y" * 8_000] * 4  # and he who does not come back holds nobody up
        order = "".join(text[0] for batch in model.batches for text in batch)
        assert order.index("m" * 10) <= 2, order  # 20 × 201 characters are less than a long text
        assert order.count("y", 0, order.rindex("m")) <= 1, order

    with_batcher(test)


def test_a_long_text_is_begun_at_once_where_nobody_was_held_up() -> None:
    lines: Lines[Text] = Lines()
    lines.join("a", [Text("a", n, 9_000) for n in range(2)])
    lines.join("b", [Text("b", 0, 100)])
    assert lines.take().client == "a"
    assert not lines.is_behind("b")  # who waits is served by his turn
    assert lines.take().client == "b"
    assert lines.is_behind("b")
    assert not lines.is_behind("a")
    lines.take()
    assert not lines.is_behind("b")  # nothing is next
