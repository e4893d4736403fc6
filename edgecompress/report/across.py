"""Every model on every target: the table of candidates and targets, and who answers otherwise.

Drawn only where there is another target than this machine; pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edgecompress.report import words
from edgecompress.report.facts import Facts, failures, short_names
from edgecompress.report.places import EMULATED, Place
from edgecompress.report.table import Cell, Column, Notes, cell_of, loss_cell, sampled
from edgecompress.values import Measurement, Row, find

NOT_MEASURED = "not measured"
VERSUS_HOST = "vs host"


@dataclass(frozen=True, slots=True)
class Line:
    """One model on one target."""

    target: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """One model on all targets that it was measured on."""

    row: Row
    name: str
    winner: bool
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Across:
    """The table, and what is said under it."""

    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    footnotes: tuple[str, ...]
    remarks: tuple[str, ...]


_Make = Callable[[Row, Place, Notes], Cell]


def across(
    facts: Facts, places: tuple[Place, ...], only: Sequence[Row | None] = ()
) -> Across | None:
    """Lay out models on all targets; None where there is only this machine.

    Parameters
    ----------
    facts : Facts
    places : tuple of Place
        What the targets are.
    only : sequence of (Row or None), optional
        The models to show; all of them when it is empty.
    """
    if not places:
        return None
    wanted = [row for row in only if row is not None]
    notes = Notes()
    metered = _metered(facts)
    columns = [one for one in _columns(facts) if one[0].key != "energy" or metered]
    names, _ = short_names(facts.rows)
    filled = []
    for row in (row for row in facts.rows if not wanted or row in wanted):
        lines = [
            (place.name, [make(row, place, notes) for _, make in columns])
            for place in places
            if not row.error and _measured_at(row, place.name)
        ]
        if lines:
            filled.append((row, lines))
    kept = [
        index
        for index in range(len(columns))
        if any(_told(cells[index]) for _, lines in filled for _, cells in lines)
    ]
    groups = tuple(
        Group(
            row=row,
            name=names[row.name],
            winner=row is facts.winner,
            lines=tuple(
                Line(target, tuple(cells[index] for index in kept)) for target, cells in lines
            ),
        )
        for row, lines in filled
    )
    heads = tuple(columns[index][0] for index in kept)
    shown = {column.key for column in heads}
    return Across(heads, groups, tuple(notes.texts), _remarks(facts, places, shown))


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
            change = words.signed(-lost.value, lost.unit)
            turned = lost.interval and (-lost.interval[1], -lost.interval[0])
            between = words.span(turned, lost.unit, sign=True)
            text += f": {change} points of {words.label(facts.primary or '')}"
            text += f" ({between})" if between else ""
        out.append(text)
    return tuple(out)


def _columns(facts: Facts) -> list[tuple[Column, _Make]]:
    split = facts.split
    name = words.title(facts.primary or "")

    def physical(metric: str) -> _Make:
        return lambda row, place, notes: _physical(row, metric, place, notes)

    def plain(metric: str) -> _Make:
        return lambda row, place, notes: cell_of(_at(row, metric, place), notes)

    def answers(metric: str) -> _Make:
        return lambda row, place, notes: _answered(row, metric, split, place, notes)

    return [
        (Column("latency", "p50", "ms"), physical("latency_p50")),
        (Column("faster", "Faster", "×"), plain("speedup")),
        (Column("memory", "Peak mem.", "MB", essential=False), physical("peak_memory")),
        (Column("accuracy", name, split or ""), answers(facts.primary or "")),
        (
            Column("drop", "vs teacher", split or ""),
            lambda row, place, notes: loss_cell(
                _at(row, f"{facts.primary}_drop", place, split), notes
            ),
        ),
        (
            Column("differs", "Unlike host", "%"),
            lambda row, place, notes: _unlike(_at(row, "host_difference", place, split), notes),
        ),
        (
            Column("host", VERSUS_HOST, split or "", essential=False),
            lambda row, place, notes: loss_cell(
                _at(row, f"{facts.primary}_host_drop", place, split), notes
            ),
        ),
        (
            Column("instructions", "Instr.", "million"),
            lambda row, place, notes: _millions(_at(row, "instructions", place), notes),
        ),
        (Column("temperature", "Temp.", "°C", essential=False), plain("temperature")),
        (Column("energy", "Energy", "mJ", essential=False), physical("energy")),
    ]


def _measured_at(row: Row, target: str) -> bool:
    return any(one.target == target for one in row.measurements)


def _told(cell: Cell) -> bool:
    return not cell.missing and (cell.text != NOT_MEASURED or bool(cell.notes))


def _at(
    row: Row, metric: str, place: Place, split: str | None = None, slice: str | None = None
) -> Measurement | None:
    return next(
        (
            one
            for one in row.measurements
            if (one.metric, one.target, one.slice) == (metric, place.name, slice)
            and split in (None, one.split)
        ),
        None,
    )


def _physical(row: Row, metric: str, place: Place, notes: Notes) -> Cell:
    """Write what only a real machine has; where it is missing, say so and why."""
    found = _at(row, metric, place)
    if found is not None:
        return _or_not_measured(cell_of(found, notes))
    failed = [one for one in failures(row) if (one.metric, one.target) == ("profile", place.name)]
    if failed:
        return Cell(NOT_MEASURED, notes=(notes.number(_reason(place, failed[0])),))
    if place.emulated and metric != "energy":
        return Cell(NOT_MEASURED, notes=(notes.number(EMULATED),))
    return Cell(NOT_MEASURED)


def _or_not_measured(cell: Cell) -> Cell:
    return replace(cell, text=NOT_MEASURED, invalid=False) if cell.text == "n/a" else cell


def _answered(row: Row, metric: str, split: str | None, place: Place, notes: Notes) -> Cell:
    found = _at(row, metric, place, split)
    if found is not None:
        return replace(cell_of(found, notes, sampled(found)), detail="")
    for one in failures(row):
        if (one.metric, one.target, one.split) == ("evaluate", place.name, split):
            return Cell(NOT_MEASURED, notes=(notes.number(_reason(place, one)),))
    return Cell()


def _reason(place: Place, failed: Measurement) -> str:
    """Give why a target failed; the reason mostly names it already."""
    reason = words.plain(failed.invalid)
    return reason if reason.startswith(place.name) else f"{place.name}: {reason}"


def _percent(found: Measurement) -> str:
    return words.significant(found.value * 100) if found.value else "0"


def _unlike(found: Measurement | None, notes: Notes) -> Cell:
    cell = cell_of(found, notes)
    return cell if found is None or cell.text == "n/a" else replace(cell, text=_percent(found))


def _millions(found: Measurement | None, notes: Notes) -> Cell:
    """Write a count of instructions; why there is none is a footnote."""
    cell = _or_not_measured(cell_of(found, notes))
    if found is None or cell.text == NOT_MEASURED:
        return cell
    return replace(cell, text=words.significant(found.value / 1e6))


def _remarks(facts: Facts, places: tuple[Place, ...], shown: set[str]) -> tuple[str, ...]:
    out = []
    if "differs" in shown:
        out.append(
            "«Unlike host» is the share of answers that differ from this machine's to the same "
            "examples, in per cent."
        )
    if "host" in shown:
        out.append(f"«{VERSUS_HOST}» is what those answers cost, against this machine's.")
    if "instructions" in shown:
        out.append("Instructions are of one inference on one thread; counts are not cycles.")
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
        out.append(f"Energy is not measured{': ' if why else ''}{why}.")
    return tuple(out)


def _metered(facts: Facts) -> bool:
    """Whether a meter gave anything anywhere."""
    return any(
        one.metric == "energy" and math.isfinite(one.value)
        for row in facts.rows
        for one in row.measurements
    )
