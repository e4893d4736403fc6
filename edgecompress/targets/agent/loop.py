"""The timing loop: models interleaved, inference by inference, over the same inputs."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecompress.targets.agent.arrays import Feed
from edgecompress.targets.agent.progress import Progress
from edgecompress.targets.agent.sensors import machine_state
from edgecompress.targets.agent.sessions import Opened

TEXT_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})


def tokenizer(entry: Mapping[str, Any], folder: Path) -> Callable[[Any], list[Feed]] | None:
    """Make the function that turns an example's text into feeds, or None."""
    if not entry.get("tokenizer"):
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / entry["tokenizer"]["path"]))
    tokenizer.enable_truncation(entry["tokenizer"]["max_length"])  # the rest: further windows
    tokenizer.no_padding()

    def run(text: str | list[str]) -> list[Feed]:
        first = tokenizer.encode(text, is_pretokenized=not isinstance(text, str))
        return [
            {
                "input_ids": np.array([window.ids], dtype=np.int64),
                "attention_mask": np.array([window.attention_mask], dtype=np.int64),
                "token_type_ids": np.array([window.type_ids], dtype=np.int64),
            }
            for window in (first, *first.overflowing)
        ]

    return run


def _rounds(
    models: Sequence[Opened],
    items: Sequence[list[list[Feed]]],
    tokenize: Sequence[Callable[[Any], list[Feed]] | None],
    texts: Sequence[Any],
) -> Iterator[tuple[int, list[int], list[int]]]:
    """Run one item through every model, without end; yield its number and the nanoseconds.

    Who goes first rotates from item to item and from pass to pass: a fixed order would always
    give one model the caches that another left. Tokenization runs just before the model and is
    timed apart; the model then gets the host's own encoding, so both parts stay comparable.
    """
    clock, count, width = time.perf_counter_ns, len(items[0]), len(models)
    step = 0
    while True:
        turn, item = divmod(step, count)
        ns, tokenize_ns = [0] * width, [0] * width
        for place in range(width):
            index = (place + item + turn) % width
            model, rows, encode = models[index], items[index][item], tokenize[index]
            if encode is not None:
                start = clock()
                encode(texts[item])
                tokenize_ns[index] = clock() - start
            start = clock()
            for row in rows:
                model(row)
            ns[index] = clock() - start
        yield item, ns, tokenize_ns
        step += 1


def time_models(
    models: Sequence[Opened],
    items: Sequence[list[list[Feed]]],
    tokenize: Sequence[Callable[[Any], list[Feed]] | None],
    job: Mapping[str, Any],
) -> dict[str, Any]:
    """Time `models` interleaved over `items` until both minimum duration and count are reached.

    Ends after a whole pass over the items, so that each weighs the same, or at the maximum
    duration. Every model has its own encoding of the same items.
    """
    clock = time.perf_counter_ns
    steps = _rounds(models, items, tokenize, job.get("texts") or ())
    warm_until, warm_rounds = clock() + int(job["warmup_ms"] * 1e6), 0
    while clock() < warm_until or warm_rounds < 2:
        next(steps)
        warm_rounds += 1
    steps = _rounds(models, items, tokenize, job.get("texts") or ())
    progress = Progress(1.0)
    order: list[int] = []
    ns: list[list[int]] = [[] for _ in models]
    tokenize_ns: list[list[int]] = [[] for _ in models]
    shortest, longest = job["min_duration_ms"] * 1e6, job["max_duration_ms"] * 1e6
    gc.collect()
    gc.disable()
    before, start = machine_state(), clock()
    for item, times, encode_times in steps:
        order.append(item)
        for index, value in enumerate(times):
            ns[index].append(value)
            tokenize_ns[index].append(encode_times[index])
        elapsed = clock() - start
        enough = elapsed >= shortest and len(order) >= job["min_count"]
        if (enough and len(order) % len(items[0]) == 0) or elapsed >= longest:
            break
        progress(min(elapsed / (shortest or 1), len(order) / (job["min_count"] or 1)))
    after = machine_state()
    gc.enable()
    return {
        "items": order,
        "ns": ns,
        "tokenize_ns": [
            column if encode is not None else None
            for column, encode in zip(tokenize_ns, tokenize, strict=True)
        ],
        "duration_ms": (clock() - start) / 1e6,
        "before": before,
        "after": after,
    }
