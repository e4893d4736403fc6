"""The one table that the terminal, Markdown and the page draw, each in its own way; pure.

Accuracy is shown on the split named in the column's title, in points; ratios are against the stock
fp32 export. A value that must not be trusted is marked and its reason is a footnote.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from edgecompress.report import words
from edgecompress.report.facts import (
    Facts,
    display_name,
    drop,
    gather,
    scored,
    short_names,
    shortfall,
    size_ratio,
    state,
)
from edgecompress.values import Measurement, Row, RunResult, find

VERDICTS = {"pass": "pass", "fail": "misses budget", "undecided": "undecided", "error": "failed"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column's key and its heading; `unit` stands under the title.

    ``essential`` columns are kept where there is little room.
    """

    key: str
    title: str
    unit: str = ""
    essential: bool = True


@dataclass(frozen=True, slots=True)
class Cell:
    """One value: `text`, `detail` in small (an interval), and the numbers of its footnotes."""

    text: str = words.MISSING
    detail: str = ""
    invalid: bool = False
    notes: tuple[int, ...] = ()

    @property
    def missing(self) -> bool:
        """Whether there is nothing to show."""
        return self.text == words.MISSING


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the table with its key in plots: ``1`` … for candidates, ``a`` … for references."""

    row: Row
    key: str
    name: str
    full_name: str
    state: str
    winner: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """What every drawing of the table shares; names leave out the stages in `common`."""

    target: str | None
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    footnotes: tuple[str, ...]
    common: tuple[str, ...] = ()


@dataclass(slots=True)
class Notes:
    """Footnotes in the order of their first mention; equal reasons share a number."""

    texts: list[str] = field(default_factory=list)

    def number(self, text: str) -> int:
        """Give the number of the footnote with this text, made where there is none."""
        clean = words.plain(text)
        if clean not in self.texts:
            self.texts.append(clean)
        return self.texts.index(clean) + 1


def build(result: RunResult, target: str | None = None) -> Table:
    """Lay out `result` as a table.

    Parameters
    ----------
    result : RunResult
    target : str, optional
        Whose latency, memory and answers are shown; the first one of the recipe by default.
    """
    facts = gather(result)
    if target is not None:
        facts = replace(facts, target=target)
    notes = Notes()
    columns = _columns(facts)
    filled = [
        (row, [make(row, notes) for _, make in columns], _verdict(row, result))
        for row in facts.rows
    ]
    kept = [
        index
        for index in range(len(columns))
        if not all(cells[index].missing for _, cells, _ in filled)
    ]
    keys = _keys(facts)
    names, common = short_names(facts.rows)
    lines = tuple(
        Line(
            row=row,
            key=keys[row.name],
            name=names[row.name],
            full_name=display_name(row),
            state=state(row),
            winner=row.name == result.winner,
            cells=(verdict, *(cells[index] for index in kept)),
        )
        for row, cells, verdict in filled
    )
    heads = tuple(columns[index][0] for index in kept)
    return Table(
        facts.target, (Column("verdict", "Verdict"), *heads), lines, tuple(notes.texts), common
    )


def _keys(facts: Facts) -> dict[str, str]:
    """Give each row the short key that plots and tables share."""
    keys = {row.name: str(index) for index, row in enumerate(facts.candidates, start=1)}
    letters = "abcdefghijklmnopqrstuvwxyz"
    return keys | {
        row.name: letters[index % len(letters)] for index, row in enumerate(facts.references)
    }


_Make = Callable[[Row, Notes], Cell]


def _columns(facts: Facts) -> list[tuple[Column, _Make]]:
    def of(metric: str) -> _Make:
        return lambda row, notes: cell_of(find(row.measurements, metric), notes)

    def timed(metric: str) -> _Make:
        return lambda row, notes: _on_target(row, metric, facts, notes)

    def accuracy(split: str) -> _Make:
        return lambda row, notes: _accuracy(row, facts, split, notes)

    def lost(split: str) -> _Make:
        return lambda row, notes: _lost(row, facts, split, notes)

    def scores(split: str) -> list[tuple[Column, _Make]]:
        shown = split == facts.split
        name = words.title(facts.primary or "")
        return [
            (Column(f"accuracy:{split}", name, split, essential=shown), accuracy(split)),
            (Column(f"drop:{split}", "vs teacher", split, essential=shown), lost(split)),
        ]

    # What matters most stands first: on a phone the rest is reached by scrolling.
    columns: list[tuple[Column, _Make]] = [
        (Column("size", "Size", "MB"), of("size")),
        (Column("smaller", "Smaller", "×"), lambda row, notes: _smaller(row, facts, notes)),
        *(pair for split in facts.splits[:1] for pair in scores(split)),
        (Column("latency", "p50", "ms"), timed("latency_p50")),
        (Column("faster", "Faster", "×"), lambda row, notes: _faster(row, facts, notes)),
        (Column("memory", "Peak mem.", "MB", essential=False), timed("peak_memory")),
        (Column("download", "Download", "MB", essential=False), of("download_size")),
        *(pair for split in facts.splits[1:] for pair in scores(split)),
    ]
    return columns


def cell_of(found: Measurement | None, notes: Notes, extra: str = "") -> Cell:
    """Write a measurement; one that is invalid is marked and its reason noted."""
    if found is None:
        return Cell()
    reasons = [found.invalid] if found.invalid else []
    if not math.isfinite(found.value) and not found.invalid:
        reasons = ["the value is not a finite number"]
    marks = tuple(notes.number(text) for text in [*reasons, *([extra] if extra else [])])
    detail = words.span(found.interval, found.unit)
    text = "n/a" if not math.isfinite(found.value) else words.number(found.value, found.unit)
    return Cell(text, detail, bool(reasons), marks)


def _on_target(row: Row, metric: str, facts: Facts, notes: Notes) -> Cell:
    found = find(row.measurements, metric, target=facts.target)
    if found is None and row.kind == "reference":
        # The teacher in PyTorch runs only on this machine: show it there, and say so.
        other = find(row.measurements, metric)
        return cell_of(other, notes, f"measured on {other.target}" if other else "")
    return cell_of(found, notes)


def _smaller(row: Row, facts: Facts, notes: Notes) -> Cell:
    ratio = size_ratio(row, facts.reference)
    if ratio is None:
        return cell_of(find(row.measurements, "compression"), notes)
    return Cell(words.times(ratio))


def _faster(row: Row, facts: Facts, notes: Notes) -> Cell:
    found = find(row.measurements, "speedup", target=facts.target)
    if found is None and facts.reference is not None and row.name == facts.reference.name:
        return Cell(words.times(1.0))
    return cell_of(found, notes)


def _accuracy(row: Row, facts: Facts, split: str, notes: Notes) -> Cell:
    found = scored(row, facts.primary or "", facts, split)
    return replace(cell_of(found, notes, sampled(found)), detail="")


def sampled(found: Measurement | None) -> str:
    """Say that only a sample was asked; empty when it was all."""
    asked, of = (found.conditions.get(key) if found else None for key in ("sample", "of"))
    return f"asked {asked:,} of {of:,} examples, a stratified sample" if asked and of else ""


def _lost(row: Row, facts: Facts, split: str, notes: Notes) -> Cell:
    """Write the change against the teacher: a loss is negative."""
    return loss_cell(drop(row, facts, split), notes)


def loss_cell(found: Measurement | None, notes: Notes) -> Cell:
    """Write a measured loss as a change: its sign and its interval are turned."""
    if found is None:
        return Cell()
    low_high = found.interval and (-found.interval[1], -found.interval[0])
    cell = cell_of(found, notes)
    if cell.text == "n/a":
        return cell
    return replace(
        cell,
        text=words.signed(-found.value, found.unit),
        detail=words.span(low_high, found.unit, sign=True),
    )


def _verdict(row: Row, result: RunResult) -> Cell:
    if row.kind == "reference":
        return Cell("failed" if row.error else "reference")
    if row.name == result.winner:
        return Cell("chosen")
    summed = state(row)
    if summed == "error":
        return Cell("failed")
    bad = [verdict for verdict in row.verdicts if verdict.state == summed]
    if summed in ("", "pass"):
        return Cell("pass" if summed else words.MISSING)
    return Cell(VERDICTS[summed], "; ".join(map(shortfall, bad)))
