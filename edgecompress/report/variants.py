"""What was measured beside the main configuration: settings, kinds of instructions, operators.

A measurement's ``slice`` tells them apart: ``threads:4``, ``batch:8``, ``arena:off``,
``kind:dot_product``, ``operator:MatMul``; pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgecompress.report import words
from edgecompress.report.facts import Facts, display_name
from edgecompress.report.table import Cell, Notes, cell_of
from edgecompress.values import Measurement, Row

DATA = ("file", "label")
"""Prefixes of slices of the data, which `edgecompress.report.panels` draws."""
OPERATOR = "operator"
KINDS = {
    "dot_product": "integer dot products",
    "fma": "fused multiply-adds",
    "multiply_add": "integer multiply-adds",
    "load_store": "loads and stores",
}
SHOWN = 12
"""Operators and nodes that are shown; the rest is summed up."""


@dataclass(frozen=True, slots=True)
class Side:
    """A small table: `heading` names its first column, `columns` are (title, unit).

    `texts` stand under it: a name and what is said of it.
    """

    title: str
    heading: str
    columns: tuple[tuple[str, str], ...]
    lines: tuple[tuple[str, tuple[Cell, ...]], ...]
    footnotes: tuple[str, ...] = ()
    remark: str = ""
    texts: tuple[tuple[str, str], ...] = ()


def sides(facts: Facts, row: Row | None) -> tuple[Side, ...]:
    """Lay out what is known of `row` beside the main configuration."""
    if row is None:
        return ()
    found = (_settings(facts, row), _kinds(facts, row), _operators(facts, row), _nodes(facts, row))
    return tuple(one for one in found if one is not None)


def prefix_of(one: Measurement) -> str:
    """Give what stands before the colon of a slice; empty for the main configuration."""
    return (one.slice or "").partition(":")[0]


def _settings(facts: Facts, row: Row) -> Side | None:
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
            found = [_exact(row, metric, target, slice_) for metric, _ in metrics]
            name = _setting(slice_, found)
            if facts.several and target:
                name = f"{words.plain(target)}: {name}"
            lines.append((name, tuple(cell_of(one, notes) for one in found)))
    columns = tuple((words.short(metric), words.UNITS.get(unit, unit)) for metric, unit in metrics)
    return Side("Other settings", "Setting", columns, tuple(lines), tuple(notes.texts))


def _setting(slice_: str | None, found: Iterable[Measurement | None]) -> str:
    """Name a setting: ``4 threads``, ``batch 8``, ``arena off``; the main one by its conditions."""
    if slice_ is None:
        threads = next((one.conditions.get("threads") for one in found if one is not None), None)
        return f"as in the table, {_threads(threads)}" if threads else "as in the table"
    key, _, value = words.plain(slice_).partition(":")
    if key == "threads":
        return _threads(value)
    return f"{key.replace('_', ' ')} {value}".strip()


def _threads(count: object) -> str:
    return f"{count} thread" + ("" if str(count) == "1" else "s")


def _kinds(facts: Facts, row: Row) -> Side | None:
    """Compare the instructions of `row` with those of the stock export, by kind."""
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
                _millions(_exact(each, "instructions", target, slice_), notes)
                for slice_ in (None, *(f"kind:{kind}" for kind in kinds))
            )
            if not all(cell.missing for cell in cells):
                lines.append((f"{words.plain(target)}: {display_name(each)}", cells))
    names = ("all", *(KINDS.get(kind, kind.replace("_", " ")) for kind in kinds))
    return Side(
        "Instructions per inference",
        "Target and model",
        tuple((name, "million") for name in names),
        tuple(lines),
        tuple(notes.texts),
        "One inference on one thread. Counts are not cycles: they say which kernels run, and no "
        "time follows from them.",
    )


def _millions(found: Measurement | None, notes: Notes) -> Cell:
    if found is None or not math.isfinite(found.value):
        return cell_of(found, notes)
    return Cell(words.significant(found.value / 1e6))


def _profiled(facts: Facts, row: Row) -> dict[str | None, list[Measurement]]:
    """Gather the times of operators by target, the main target first."""
    found: dict[str | None, list[Measurement]] = {}
    for one in row.measurements:
        if prefix_of(one) == OPERATOR and one.unit == "ms":
            found.setdefault(one.target, []).append(one)
    return dict(sorted(found.items(), key=lambda pair: pair[0] != facts.target))


def _operators(facts: Facts, row: Row) -> Side | None:
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
    return Side(
        "Time by operator",
        "Operator",
        tuple((words.plain(target or "Time"), "ms, share") for target in times),
        tuple(lines),
        tuple(notes.texts),
        "One inference, by ONNX Runtime's own profile, which slows each node down a little: "
        "shares say more than sums.",
        _floats(found),
    )


def _floats(found: dict[str | None, list[Measurement]]) -> tuple[tuple[str, str], ...]:
    """Name the nodes of a quantized graph that ran in floating point, and why."""
    out: dict[str, str] = {}
    for measured in found.values():
        for one in measured:
            kept = one.conditions.get("float")
            for name, why in kept.items() if isinstance(kept, Mapping) else ():
                text = f"ran in floating point: {words.plain(why)}"
                out.setdefault(words.plain(name), text)
    rest = len(out) - SHOWN
    shown = tuple(out.items())[:SHOWN]
    return (*shown, (f"{rest} more", "are in results.json")) if rest > 0 else shown


def _nodes(facts: Facts, row: Row) -> Side | None:
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
    return Side(
        "Slowest nodes",
        "Node of the graph",
        ((words.plain(target or "Time"), "ms, share"),),
        tuple(
            (name, (Cell(words.significant(ms), f"{share:.0%}"),))
            for name, ms, share in layers[:SHOWN]
        ),
    )


def _shared(times: Mapping[str, float], names: Sequence[str]) -> Cell:
    mine = [times[name] for name in names if name in times and math.isfinite(times[name])]
    total = sum(value for value in times.values() if math.isfinite(value))
    if not mine:
        return Cell()
    return Cell(words.significant(sum(mine)), f"{sum(mine) / total:.0%}" if total > 0 else "")


def _exact(row: Row, metric: str, target: str | None, slice_: str | None) -> Measurement | None:
    return next(
        (
            one
            for one in row.measurements
            if (one.metric, one.target, one.slice) == (metric, target, slice_)
        ),
        None,
    )
