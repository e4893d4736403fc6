"""The timing loop: models interleaved, inference by inference, over the same inputs."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgecompress.targets.agent.around import Around
from edgecompress.targets.agent.arrays import Feed
from edgecompress.targets.agent.energy import Watch
from edgecompress.targets.agent.progress import Progress
from edgecompress.targets.agent.sensors import counters, frequency_mhz, surroundings
from edgecompress.targets.agent.sessions import LoadedModel, Null

WINDOW_ITEMS, WINDOW_NS = 8, 50_000_000
STABLE = 0.05
"""Warm-up: a window is so many inputs, run for so long; medians of two may differ so much."""
FREQUENCY_NS = 500_000_000
"""Least time between two looks at the clock's frequency."""
TEXT_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})


def _rounds(
    models: Sequence[LoadedModel],
    items: Sequence[list[list[Feed]]],
    around: Sequence[Around | None],
) -> Iterator[tuple[int, list[int], list[int]]]:
    """Run one item through every model, without end; yield its number and the nanoseconds.

    Who goes first rotates from item to item and from pass to pass, and every second order runs
    backwards, so that of any two models each comes first half of the time: a later one finds an
    input in the cache that an earlier one brought there. What stands around an inference runs just
    before and behind it and is timed apart; the model gets the inputs that the host has made, so
    that its own times stay comparable.
    """
    clock, count, width = time.perf_counter_ns, len(items[0]), len(models)
    step = 0
    while True:
        turn, item = divmod(step, count)
        ns, around_ns = [0] * width, [0] * width
        rotation, backwards = divmod(item + turn, 2)
        for place in range(width)[:: -1 if backwards else 1]:
            index = (place + rotation) % width
            model, rows, way = models[index], items[index][item], around[index]
            begun = clock()
            if way is not None:
                way.before(item)
            start = clock()
            if way is None:
                for row in rows:
                    model(row)
                ns[index] = clock() - start
                continue
            outputs = [model(row) for row in rows]
            done = clock()
            way.behind(outputs)
            ns[index] = done - start
            around_ns[index] = start - begun + clock() - done
        yield item, ns, around_ns
        step += 1


def warm_up(
    models: Sequence[LoadedModel],
    items: Sequence[list[list[Feed]]],
    around: Sequence[Around | None],
    job: Mapping[str, Any],
) -> dict[str, Any]:
    """Run until the times are stable: caches filled, clock raised, memory had from the system.

    First all items in turn for ``warmup_ms``. Then windows of whole passes over the first few
    items, always the same ones, until the median of every model lies within 5 % of that of the
    window before, or ``max_warmup_ms`` have gone in all. Each window is twice as long as the last:
    on a restless machine short ones would hardly ever agree.

    Returns
    -------
    dict
        ``ms``, ``rounds``, ``stable``.
    """
    clock = time.perf_counter_ns
    start, rounds = clock(), 0
    steps = _rounds(models, items, around)
    while rounds < 2 or clock() - start < job["warmup_ms"] * 1e6:
        next(steps)
        rounds += 1
    few = [each[:WINDOW_ITEMS] for each in items]
    real = [index for index, model in enumerate(models) if not isinstance(model, Null)]
    stable, earlier, until = not real, list[float](), start + job["max_warmup_ms"] * 1e6
    length = WINDOW_NS
    steps = _rounds(models, few, around)
    while not stable and clock() < until:
        window: list[list[int]] = [[] for _ in models]
        begun = clock()
        while clock() - begun < length or len(window[0]) % len(few[0]):
            for index, value in enumerate(next(steps)[1]):
                window[index].append(value)
            if clock() >= until:
                break
        rounds += len(window[0])
        if len(window[0]) % len(few[0]) == 0:
            now = [statistics.median(window[index]) for index in real]
            pairs = zip(now, earlier, strict=False)
            stable = bool(earlier) and all(abs(a - b) <= STABLE * b for a, b in pairs)
            earlier = now
        length *= 2
    return {"ms": (clock() - start) / 1e6, "rounds": rounds, "stable": stable}


def time_models(
    models: Sequence[LoadedModel],
    items: Sequence[list[list[Feed]]],
    around: Sequence[Around | None],
    job: Mapping[str, Any],
) -> dict[str, Any]:
    """Time `models` interleaved over `items` until both minimum duration and count are reached.

    Ends after a whole pass over the items, so that each weighs the same, or at the maximum
    duration. Every model has its own encoding of the same items. The clock's frequency is read
    now and then between inferences, outside of what is timed.
    """
    clock = time.perf_counter_ns
    warmup = warm_up(models, items, around, job)
    steps = _rounds(models, items, around)
    progress = Progress(1.0)
    order: list[int] = []
    ns: list[list[int]] = [[] for _ in models]
    around_ns: list[list[int]] = [[] for _ in models]
    shortest, longest = job["min_duration_ms"] * 1e6, job["max_duration_ms"] * 1e6
    state = surroundings()
    frequencies = [state["frequency_mhz"]]
    gc.collect()
    gc.disable()
    watch = Watch() if job.get("energy") else None
    before, start = state | counters(), clock()
    look_at = start + FREQUENCY_NS
    for item, times, others in steps:
        order.append(item)
        for index, value in enumerate(times):
            ns[index].append(value)
            around_ns[index].append(others[index])
        now = clock()
        elapsed = now - start
        enough = elapsed >= shortest and len(order) >= job["min_count"]
        if (enough and len(order) % len(items[0]) == 0) or elapsed >= longest:
            break
        progress(min(elapsed / (shortest or 1), len(order) / (job["min_count"] or 1)))
        if now >= look_at and state["frequency_mhz"] is not None:
            frequencies.append(frequency_mhz())
            look_at = clock() + FREQUENCY_NS
    end, after = clock(), counters()
    energy = watch.stop() if watch else None
    after |= surroundings()
    gc.enable()
    return {
        "items": order,
        "ns": ns,
        "around_ns": [
            None if way is None else column for column, way in zip(around_ns, around, strict=True)
        ],
        "covers": [None if way is None else way.covers for way in around],
        "duration_ms": (end - start) / 1e6,
        "before": before,
        "after": after,
        "frequencies_mhz": [found for found in frequencies if found is not None],
        "warmup": warmup,
        "energy": energy,
    }
