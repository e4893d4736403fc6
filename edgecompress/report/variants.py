"""What was measured beside the main configuration: settings, kinds of instructions, operators.

A measurement's ``slice`` tells them apart: ``threads:4``, ``batch:8``, ``arena:off``,
``kind:dot_product``, ``operator:MatMul``, ``layer:<node>``; pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgecompress.report import words
from edgecompress.report.facts import Facts, display_name
from edgecompress.report.table import Cell, Notes, cell_of
from edgecompress.values import Measurement, Row

DATA = ("file", "label")
"""Prefixes of slices of the data, which `edgecompress.report.panels` draws."""
PROFILED = {"operator": "Operator", "layer": "Node"}
KINDS = {
    "dot_product": "integer dot products",
    "fma": "fused multiply-adds",
    "multiply_add": "integer multiply-adds",
    "load_store": "loads and stores",
}
SHORT = {
    "latency_p50": "p50",
    "latency_p90": "p90",
    "latency_p99": "p99",
    "end_to_end_p50": "p50 with tokenization",
    "speedup": "Faster",
    "peak_memory": "Peak mem.",
    "memory_rise": "Mem. over runtime",
}
SHOWN = 12
"""Operators and nodes that are shown; the rest is summed up."""


@dataclass(frozen=True, slots=True)
class Side:
    """A small table: `heading` names its first column, `columns` are (title, unit)."""

    title: str
    heading: str
    columns: tuple[tuple[str, str], ...]
    lines: tuple[tuple[str, tuple[Cell, ...]], ...]
    footnotes: tuple[str, ...] = ()
    remark: str = ""


def sides(facts: Facts, row: Row | None) -> tuple[Side, ...]:
    """Lay out what is known of `row` beside the main configuration."""
    if row is None:
        return ()
    found = [_settings(facts, row), _kinds(facts, row)]
    found += [_profile(facts, row, prefix, name) for prefix, name in PROFILED.items()]
    return tuple(one for one in found if one is not None)


def prefix_of(one: Measurement) -> str:
    """Give what stands before the colon of a slice; empty for the main configuration."""
    return (one.slice or "").partition(":")[0]


def _settings(facts: Facts, row: Row) -> Side | None:
    apart = (*DATA, *PROFILED, "kind", "")
    varied = [one for one in row.measurements if prefix_of(one) not in apart]
    if not varied:
        return None
    order = {name: index for index, name in enumerate(words.TITLES)}
    keys = dict.fromkeys((one.metric, one.unit) for one in varied)
    metrics = sorted(keys, key=lambda key: (order.get(key[0], 99), key[0]))
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
    columns = tuple(
        (SHORT.get(metric, words.title(metric)), words.UNITS.get(unit, unit))
        for metric, unit in metrics
    )
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


def _profile(facts: Facts, row: Row, prefix: str, heading: str) -> Side | None:
    """Rank operators or nodes by their time on the main target; shares are of all of them."""
    found = [one for one in row.measurements if prefix_of(one) == prefix and one.unit == "ms"]
    targets = list(dict.fromkeys(one.target for one in found))
    if facts.target in targets:
        targets.sort(key=lambda one: one != facts.target)
    if not targets:
        return None
    times = {
        target: {str(one.slice): one.value for one in found if one.target == target}
        for target in targets
    }
    first = times[targets[0]]
    ranked = sorted(first, key=lambda name: -first[name])
    ranked += [name for target in targets[1:] for name in times[target] if name not in first]
    ranked = list(dict.fromkeys(ranked))
    lines = [
        (words.plain(name.partition(":")[2]), tuple(_shared(times, one, [name]) for one in targets))
        for name in ranked[:SHOWN]
    ]
    if rest := ranked[SHOWN:]:
        cells = tuple(_shared(times, target, rest) for target in targets)
        lines.append((f"{len(rest)} others", cells))
    return Side(
        f"Time by {heading.lower()}",
        heading,
        tuple((words.plain(target or "Time"), "ms, share") for target in targets),
        tuple(lines),
        remark="One inference; ONNX Runtime's own profile, which slows the model down a little.",
    )


def _shared(
    times: dict[str | None, dict[str, float]], target: str | None, names: Sequence[str]
) -> Cell:
    mine = [times[target][name] for name in names if name in times[target]]
    mine = [value for value in mine if math.isfinite(value)]
    total = sum(value for value in times[target].values() if math.isfinite(value))
    if not mine:
        return Cell()
    share = f"{sum(mine) / total:.0%}" if total > 0 else ""
    return Cell(words.significant(sum(mine)), share)


def _exact(row: Row, metric: str, target: str | None, slice_: str | None) -> Measurement | None:
    return next(
        (
            one
            for one in row.measurements
            if (one.metric, one.target, one.slice) == (metric, target, slice_)
        ),
        None,
    )
