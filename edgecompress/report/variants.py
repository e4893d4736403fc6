"""What was measured beside the main configuration: settings, kinds of instructions, operators.

A measurement's ``slice`` tells them apart: ``threads:4``, ``batch:8``, ``arena:off``,
``kind:dot_product``, ``operator:MatMul``; pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from edgecompress.report import words
from edgecompress.report.blocks import Block, Pairs
from edgecompress.report.blocks import name as named
from edgecompress.report.facts import Facts, display_name
from edgecompress.report.table import Cell, Column, Notes, Table, cell_of, table_of
from edgecompress.results import Row
from edgecompress.values import Measurement, find

DATA = ("file", "label")
"""Prefixes of slices of the data, which `edgecompress.report.details` draws."""
OPERATOR, OPERATORS = "operator", "Time by operator"
KINDS = {
    "dot_product": "integer dot products",
    "fma": "fused multiply-adds",
    "multiply_add": "integer multiply-adds",
    "load_store": "loads and stores",
}
STYLE = "sticky fit side"
SHOWN = 12
"""Operators and nodes that are shown; the rest is summed up."""


def variant_tables(facts: Facts, row: Row | None) -> tuple[Table, ...]:
    """Lay out what is known of `row` beside the main configuration."""
    if row is None:
        return ()
    found = (_settings(facts, row), _kinds(facts, row), _operators(facts, row), _nodes(facts, row))
    return tuple(one for one in found if one is not None)


def in_floating_point(facts: Facts, row: Row) -> tuple[Block, ...]:
    """Name the nodes of a quantized graph that ran in floating point, and why."""
    out: dict[str, str] = {}
    for measured in _profiled(facts, row).values():
        for one in measured:
            kept = one.conditions.get("float")
            for name, why in kept.items() if isinstance(kept, Mapping) else ():
                out.setdefault(str(name), f"ran in floating point: {why}")
    shown = [(named(name), why) for name, why in [*out.items()][:SHOWN]]
    if len(out) > SHOWN:
        shown.append((f"{len(out) - SHOWN} more", "are in results.json"))
    return (Pairs(tuple(shown)),) if shown else ()


def prefix_of(one: Measurement) -> str:
    """Give what stands before the colon of a slice; empty for the main configuration."""
    return (one.slice or "").partition(":")[0]


def _settings(facts: Facts, row: Row) -> Table | None:
    apart = (*DATA, OPERATOR, "kind", "")
    varied = [one for one in row.measurements if prefix_of(one) not in apart]
    if not varied:
        return None
    keys = dict.fromkeys((one.metric, one.unit) for one in varied)
    metrics = sorted(keys, key=lambda key: words.place(key[0]))
    notes = Notes()
    lines = []
    for target in dict.fromkeys(one.target for one in varied):
        slices = dict.fromkeys(one.slice for one in varied if one.target == target)
        for slice_ in (None, *slices):
            found = [
                find(row.measurements, metric, target=target, slice=slice_) for metric, _ in metrics
            ]
            name = _setting(slice_, found)
            if facts.several and target:
                name = f"{words.plain(target)}: {name}"
            lines.append((name, tuple(cell_of(one, notes) for one in found)))
    columns = (Column(metric, words.short(metric), words.sign(unit)) for metric, unit in metrics)
    return table_of("Other settings", "Setting", columns, lines, notes.texts, style=STYLE)


def _setting(slice_: str | None, found: Iterable[Measurement | None]) -> str:
    """Name a setting: ``4 threads``, ``batch 8``, ``arena off``; the main one by its conditions."""
    if slice_ is None:
        threads = next((one.conditions.get("threads") for one in found if one is not None), None)
        return (
            f"as in the table, {words.counted(threads, 'thread')}" if threads else "as in the table"
        )
    key, _, value = words.plain(slice_).partition(":")
    if key == "threads":
        return words.counted(value, "thread")
    return f"{key.replace('_', ' ')} {value}".strip()


def _kinds(facts: Facts, row: Row) -> Table | None:
    """Compare the instructions of `row` with those of the reference, by kind."""
    rows = [row, *([facts.reference] if facts.reference else [])]
    every = [one for each in rows for one in each.measurements if one.metric == "instructions"]
    found = dict.fromkeys(str(one.slice).partition(":")[2] for one in every if one.slice)
    kinds = [kind for kind in KINDS if kind in found] + [one for one in found if one not in KINDS]
    if not kinds:
        return None
    notes = Notes()
    lines = []
    for target in dict.fromkeys(one.target for one in every):
        for each in rows:
            cells = tuple(
                _millions(
                    find(each.measurements, "instructions", target=target, slice=slice_), notes
                )
                for slice_ in (None, *(f"kind:{kind}" for kind in kinds))
            )
            if not all(cell.missing for cell in cells):
                lines.append((f"{words.plain(target)}: {display_name(each)}", cells))
    names = ("all", *(KINDS.get(kind, kind.replace("_", " ")) for kind in kinds))
    remark = (
        "One inference on one thread. Counts are not cycles: they say which kernels run, and no "
        "time follows from them."
    )
    columns = (Column(name, name, "million") for name in names)
    title, heading = "Instructions per inference", "Target and model"
    table = table_of(title, heading, columns, lines, notes.texts, style=STYLE)
    return replace(table, remarks=(("", remark),))


def _millions(found: Measurement | None, notes: Notes) -> Cell:
    if found is None or not math.isfinite(found.value):
        return cell_of(found, notes)
    return Cell(words.millions(found))


def _profiled(facts: Facts, row: Row) -> dict[str | None, list[Measurement]]:
    """Gather the times of operators by target, the main target first."""
    found: dict[str | None, list[Measurement]] = {}
    for one in row.measurements:
        if prefix_of(one) == OPERATOR and one.unit == "ms":
            found.setdefault(one.target, []).append(one)
    return dict(sorted(found.items(), key=lambda pair: pair[0] != facts.target))


def _operators(facts: Facts, row: Row) -> Table | None:
    """Rank operators by their time on the first target; shares are of all operators."""
    found = _profiled(facts, row)
    if not found:
        return None
    notes = Notes()
    times = {
        target: {str(one.slice).partition(":")[2]: one.value for one in measured}
        for target, measured in found.items()
    }
    first = next(iter(times.values()))
    ranked = sorted(first, key=lambda name: -first[name])
    ranked = list(dict.fromkeys([*ranked, *(name for each in times.values() for name in each)]))
    lines = [
        (words.plain(name), tuple(_shared(each, [name]) for each in times.values()))
        for name in ranked[:SHOWN]
    ]
    if rest := ranked[SHOWN:]:
        cells = tuple(_shared(each, rest) for each in times.values())
        lines.append((f"{len(rest)} other{'s' * (len(rest) > 1)}", cells))
    for target, measured in found.items():
        reason = next((one.invalid for one in measured if one.invalid), None)
        if reason:
            notes.number(f"{target}: {reason}")
    remark = (
        "One inference, by ONNX Runtime's own profile, which slows each node down a little: "
        "shares say more than sums."
    )
    columns = (Column("time", target or "Time", "ms, share") for target in times)
    table = table_of(OPERATORS, "Operator", columns, lines, notes.texts, style=STYLE)
    return replace(table, remarks=(("", remark),))


def _nodes(facts: Facts, row: Row) -> Table | None:
    """Rank the slowest single nodes on the first target."""
    found = _profiled(facts, row)
    target, measured = next(iter(found.items()), (None, []))
    layers = [
        (words.plain(layer.get("name")), float(layer["ms"]), float(layer["share"]))
        for one in measured
        for layer in one.conditions.get("layers") or ()
        if isinstance(layer, Mapping) and {"ms", "share"} <= set(layer)
    ]
    if not layers:
        return None
    layers.sort(key=lambda layer: -layer[1])
    lines = (
        (name, (Cell(words.significant(ms), f"{share:.0%}"),)) for name, ms, share in layers[:SHOWN]
    )
    column = Column("time", target or "Time", "ms, share")
    return table_of("Slowest nodes", "Node of the graph", (column,), lines, style=STYLE)


def _shared(times: Mapping[str, float], names: Sequence[str]) -> Cell:
    mine = [times[name] for name in names if name in times and math.isfinite(times[name])]
    total = sum(value for value in times.values() if math.isfinite(value))
    if not mine:
        return Cell()
    return Cell(words.significant(sum(mine)), f"{sum(mine) / total:.0%}" if total > 0 else "")
