"""The four figures that matter of a model, each with what it is compared to; pure."""

from __future__ import annotations

from edgecompress.report import words
from edgecompress.report.blocks import Tile, Tiles
from edgecompress.report.facts import (
    Facts,
    drop,
    scored,
    size_ratio,
    sound_speedup,
    whole_speedup,
    worst_loss,
)
from edgecompress.results import Row
from edgecompress.values import Measurement, find


def tiles(facts: Facts, row: Row | None) -> tuple[Tiles, ...]:
    """Give size, latency, accuracy and memory of `row`, as far as they were measured."""
    if row is None:
        return ()
    made = (_size(facts, row), _latency(facts, row), _accuracy(facts, row), _memory(facts, row))
    found = tuple(one for one in made if one is not None)
    return (Tiles(found),) if found else ()


def _tile(name: str, found: Measurement, gain: str, detail: str) -> Tile:
    unit = words.UNITS.get(found.unit, found.unit)
    value = words.number(found.value, found.unit)
    return Tile(name, value, unit, gain, detail, found.invalid or "")


def _of(row: Row | None, metric: str, target: str | None) -> Measurement | None:
    return find(row.measurements, metric, target=target) if row else None


def _memory(facts: Facts, row: Row) -> Tile | None:
    found = _of(row, "peak_memory", facts.target)
    base = _of(facts.reference, "peak_memory", facts.target)
    if found is None:
        return None
    sound = base is not None and not base.invalid and not found.invalid and found.value > 0
    gain = f"{words.times(base.value / found.value)}× less" if base and sound else ""
    against = f"{facts.exported} export {words.measured(base)}" if sound else ""
    return _tile(
        "Peak memory", found, gain, " · ".join(filter(None, [against, facts.where.strip()]))
    )


def _size(facts: Facts, row: Row) -> Tile | None:
    found = find(row.measurements, "size")
    if found is None:
        return None
    ratio = size_ratio(row, facts.reference)
    download = find(row.measurements, "download_size")
    detail = f"{words.measured(download)} to download" if download else ""
    return _tile("Size", found, f"{words.times(ratio)}× smaller" if ratio else "", detail)


def _latency(facts: Facts, row: Row) -> Tile | None:
    found = _of(row, "latency_p50", facts.target)
    if found is None:
        return None
    fast = sound_speedup(row, facts.target)
    gain = f"{words.times(fast.value)}× faster" if fast else ""
    where = [words.plain(found.target)] if found.target else []
    threads = found.conditions.get("threads")
    if isinstance(threads, int):
        where.append(words.counted(threads, "thread"))
    between = words.span(found.interval, found.unit)
    parts = [f"{between} ms" if between else "", ", ".join(where)]
    whole = whole_speedup(row, facts.target) if fast else None
    parts.append(f"{words.times(whole[0].value)}× faster {whole[1]}" if whole else "")
    detail = " · ".join(filter(None, parts))
    return _tile("Latency p50", found, gain, detail)


def _accuracy(facts: Facts, row: Row) -> Tile | None:
    split = facts.split
    found = scored(row, facts.primary or "", facts, split)
    if found is None and len(facts.splits) > 1:
        split = facts.splits[1]
        found = scored(row, facts.primary or "", facts, split)
    if found is None:
        return None
    lost = drop(row, facts, split)
    gain = between = ""
    if lost is not None and not lost.invalid:
        change, between = words.turned(lost)
        gain = f"{change} vs teacher"
    name = f"{words.title(found.metric)} on {split}" if split else words.title(found.metric)
    answered = f"answered by {words.plain(found.target)}" if facts.several and found.target else ""
    worst = worst_loss(row, facts, split)
    least = ""
    if worst is not None:
        change, span = words.turned(worst)
        where = words.plain(str(worst.slice).removeprefix("file:"))
        least = f"worst file {where}: {change} ({span})"
    return _tile(name, found, gain, " · ".join(filter(None, [between, answered, least])))
