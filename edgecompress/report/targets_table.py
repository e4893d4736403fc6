"""Every model on every target: the table of candidates and targets, and who answers otherwise.

Drawn only where there is another target than this machine; pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from edgecompress.report import words
from edgecompress.report.facts import Facts, failures, short_names
from edgecompress.report.table import (
    NOT_MEASURED,
    Cell,
    Column,
    Line,
    Notes,
    Part,
    Table,
    cell_of,
    faster_cell,
    faster_column,
    filled,
    loss_cell,
    sampled,
)
from edgecompress.report.targets import EMULATED, DescribedTarget
from edgecompress.results import Row
from edgecompress.values import Measurement, find

VERSUS_HOST = "vs host"
ABSENT = Cell(NOT_MEASURED, tone="quiet", short=words.MISSING)

_Make = Callable[[Row, DescribedTarget, Notes], Cell]


def targets_table(
    facts: Facts, places: tuple[DescribedTarget, ...], only: Sequence[Row] = ()
) -> Table | None:
    """Lay out models on all targets; None where there is only this machine.

    Parameters
    ----------
    facts : Facts
    places : tuple of DescribedTarget
        What the targets are.
    only : sequence of Row, optional
        The models to show; all of them when it is empty.
    """
    if not places:
        return None
    notes, metered = Notes(), _metered(facts)
    columns = [one for one in _columns(facts) if one[0].key != "energy" or metered]
    names, _ = short_names(facts.rows)
    parts = []
    for row in (row for row in facts.rows if not row.error and (not only or row in only)):
        lines = tuple(
            Line(place.name, tuple(make(row, place, notes) for _, make in columns))
            for place in places
            if any(one.target == place.name for one in row.measurements)
        )
        if lines:
            parts.append(Part(lines, names[row.name], row.name, True, row is facts.winner))
    heads = tuple(column for column, _ in columns)
    table = filled(Table("Models on every target", "Target", heads, tuple(parts)))
    remarks = _remarks(facts, places, {column.key for column in table.columns})
    return replace(table, footnotes=tuple(notes.texts), remarks=remarks, style="sticky across")


def differing(facts: Facts, row: Row | None) -> tuple[str, ...]:
    """Say on which targets `row` answers otherwise than on this machine, and what that costs."""
    if row is None:
        return ()
    out = []
    for target in facts.targets:
        found = find(row.measurements, "host_difference", target=target, split=facts.split)
        if found is None or found.invalid or not found.value > 0:
            continue
        text = f"{words.plain(target)} gives {_percent(found)} % of the answers otherwise"
        lost = find(
            row.measurements, f"{facts.primary}_host_drop", target=target, split=found.split
        )
        if lost is not None and not lost.invalid:
            change, between = words.turned(lost)
            text += f": {change} points of {words.label(facts.primary or '')}"
            text += f" ({between})" if between else ""
        out.append(text)
    return tuple(out)


def _columns(facts: Facts) -> list[tuple[Column, _Make]]:
    split, primary = facts.split or "", facts.primary or ""

    def physical(metric: str) -> _Make:
        return lambda row, place, notes: _physical(row, metric, place, notes)

    def plain(metric: str) -> _Make:
        return lambda row, place, notes: cell_of(_at(row, metric, place), notes)

    def faster(row: Row, place: DescribedTarget, notes: Notes) -> Cell:
        return faster_cell(_at(row, "speedup", place), _at(row, "end_to_end_speedup", place), notes)

    def loss(metric: str) -> _Make:
        return lambda row, place, notes: loss_cell(_at(row, metric, place, facts.split), notes)

    def unlike(row: Row, place: DescribedTarget, notes: Notes) -> Cell:
        return _as(_at(row, "host_difference", place, facts.split), _percent, notes)

    def instructions(row: Row, place: DescribedTarget, notes: Notes) -> Cell:
        return _as(_at(row, "instructions", place), words.millions, notes)

    return [
        (Column("latency", "p50", "ms"), physical("latency_p50")),
        (faster_column(facts.rows), faster),
        (Column("memory", "Peak mem.", "MB", 2), physical("peak_memory")),
        (
            Column("accuracy", words.title(primary), split),
            lambda row, place, notes: _answered(row, facts, place, notes),
        ),
        (Column("drop", "vs teacher", split), loss(f"{primary}_drop")),
        (Column("differs", "Unlike host", "%"), unlike),
        (Column("host", VERSUS_HOST, split, 2), loss(f"{primary}_host_drop")),
        (Column("instructions", "Instr.", "million"), instructions),
        (Column("temperature", "Temp.", "°C", 2), plain("temperature")),
        (Column("energy", "Energy", "mJ", 2), physical("energy")),
    ]


def _at(
    row: Row, metric: str, place: DescribedTarget, split: str | None = None
) -> Measurement | None:
    return next(
        (
            one
            for one in row.measurements
            if (one.metric, one.target, one.slice) == (metric, place.name, None)
            and split in (None, one.split)
        ),
        None,
    )


def _physical(row: Row, metric: str, place: DescribedTarget, notes: Notes) -> Cell:
    """Write what only a real machine has; where it is missing, say so and why."""
    found = _at(row, metric, place)
    if found is not None:
        return _or_not_measured(cell_of(found, notes))
    if failed := _failed(row, "profile", None, place):
        return replace(ABSENT, notes=(notes.number(failed),))
    if place.emulated and metric != "energy":
        return replace(ABSENT, notes=(notes.number(EMULATED),))
    return ABSENT


def _or_not_measured(cell: Cell) -> Cell:
    return replace(ABSENT, notes=cell.notes) if cell.text == "n/a" else cell


def _answered(row: Row, facts: Facts, place: DescribedTarget, notes: Notes) -> Cell:
    found = _at(row, facts.primary or "", place, facts.split)
    if found is not None:
        return replace(cell_of(found, notes, sampled(found)), detail="")
    failed = _failed(row, "evaluate", facts.split, place)
    return replace(ABSENT, notes=(notes.number(failed),)) if failed else Cell()


def _failed(row: Row, observer: str, split: str | None, place: DescribedTarget) -> str:
    """Give why a target failed, empty where it did not; the reason mostly names it already."""
    for one in failures(row):
        if (one.metric, one.target, one.split) == (observer, place.name, split):
            reason = words.plain(one.invalid)
            return reason if reason.startswith(place.name) else f"{place.name}: {reason}"
    return ""


def _percent(found: Measurement) -> str:
    return words.significant(found.value * 100) if found.value else "0"


def _as(found: Measurement | None, write: Callable[[Measurement], str], notes: Notes) -> Cell:
    """Write a number in a way of its own; why there is none is a footnote."""
    cell = _or_not_measured(cell_of(found, notes))
    unwritten = found is None or cell.text == NOT_MEASURED
    return cell if unwritten or found is None else replace(cell, text=write(found))


def _remarks(
    facts: Facts, places: tuple[DescribedTarget, ...], shown: set[str]
) -> tuple[tuple[str, str], ...]:
    said = {
        "differs": "«Unlike host» is the share of answers that differ from this machine's to the "
        "same examples, in per cent.",
        "host": f"«{VERSUS_HOST}» is what those answers cost, against this machine's.",
        "instructions": "Instructions are of one inference on one thread; counts are not cycles.",
    }
    out = [(key, text) for key, text in said.items() if key in shown]
    real = [place for place in places if not place.emulated]
    if real and not _metered(facts):
        reasons = dict.fromkeys(
            words.plain(one.invalid)
            for row in facts.rows
            for one in row.measurements
            if one.metric == "energy" and one.invalid
        )
        bare = all(place.meters == () for place in real)
        why = "; ".join(reasons) or ("no meter that can be read" if bare else "")
        out.append(("", f"Energy is not measured{': ' if why else ''}{why}."))
    return tuple(out)


def _metered(facts: Facts) -> bool:
    """Whether a meter gave anything anywhere."""
    return any(
        one.metric == "energy" and math.isfinite(one.value)
        for row in facts.rows
        for one in row.measurements
    )
