"""The table of all models of a run; pure.

Accuracy is shown on the split named in the column's title, in points; ratios are against the
teacher's fp32 export.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

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
    speedup,
    state,
    worst_loss,
)
from edgecompress.report.table import (
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
from edgecompress.results import Row, RunResult
from edgecompress.values import find

VERDICTS = {"pass": "pass", "fail": "misses budget", "undecided": "undecided", "error": "failed"}
HEADINGS = {"reference": "References", "candidate": "Candidates"}

_Make = Callable[[Row, Notes], Cell]


def build(result: RunResult, target: str | None = None, download: str = "") -> Table:
    """Lay out `result` as a table.

    Parameters
    ----------
    result : RunResult
    target : str, optional
        Whose latency, memory and answers are shown; the first one of the recipe by default.
    download : str, optional
        Name of the file that its CSV is offered as.
    """
    facts = gather(result)
    if target is not None:
        facts = replace(facts, target=target)
    notes, columns = Notes(), _columns(facts)
    keys, (names, _) = row_keys(facts), short_names(facts.rows)
    lines = {
        row.name: Line(
            names[row.name],
            (_verdict(row, result), *(make(row, notes) for _, make in columns)),
            keys[row.name],
            display_name(row),
            state(row),
            row.name == result.winner,
        )
        for row in facts.rows
    }
    parts = tuple(
        Part(tuple(lines[row.name] for row in facts.rows if row.kind == kind), heading, kind)
        for kind, heading in HEADINGS.items()
    )
    heads = (Column("verdict", "Verdict", kind="state"), *(column for column, _ in columns))
    table = Table("All models", "Model", heads, parts, tuple(notes.texts))
    return replace(filled(table), style="sticky cards", sortable=True, download=download)


def row_keys(facts: Facts) -> dict[str, str]:
    """Give each row its key in tables and plots: ``1`` … for candidates, ``a`` … for references."""
    keys = {row.name: str(index) for index, row in enumerate(facts.candidates, start=1)}
    letters = "abcdefghijklmnopqrstuvwxyz"
    return keys | {
        row.name: letters[index % len(letters)] for index, row in enumerate(facts.references)
    }


def _columns(facts: Facts) -> list[tuple[Column, _Make]]:
    def of(metric: str) -> _Make:
        return lambda row, notes: cell_of(find(row.measurements, metric), notes)

    def timed(metric: str) -> _Make:
        return lambda row, notes: _on_target(row, metric, facts, notes)

    def scores(split: str) -> list[tuple[Column, _Make]]:
        primary, spare = facts.primary or "", 0 if split == facts.split else 2

        def score(row: Row, notes: Notes) -> Cell:
            found = scored(row, primary, facts, split)
            return replace(cell_of(found, notes, sampled(found)), detail="")

        return [
            (Column(f"accuracy:{split}", words.title(primary), split, spare), score),
            (
                Column(f"drop:{split}", "vs teacher", split, spare),
                lambda row, notes: loss_cell(drop(row, facts, split), notes),
            ),
        ]

    def worst(row: Row, notes: Notes) -> Cell:
        found = worst_loss(row, facts, facts.split) if row.kind == "candidate" else None
        cell = loss_cell(found, notes)
        if found is None:
            return cell
        where = words.plain(str(found.slice).removeprefix("file:"))
        return replace(cell, detail=" ".join(filter(None, (where, cell.detail))))

    # What matters most stands first: on a phone the rest is reached by scrolling.
    return [
        (Column("size", "Size", "MB"), of("size")),
        (Column("smaller", "Smaller", "×", 1), lambda row, notes: _smaller(row, facts, notes)),
        *(pair for split in facts.splits[:1] for pair in scores(split)),
        (Column("worst", "Worst file", "vs teacher", 1), worst),
        (Column("latency", "p50", "ms"), timed("latency_p50")),
        (faster_column(facts.rows), lambda row, notes: _faster(row, facts, notes)),
        (Column("memory", "Peak mem.", "MB", 2), timed("peak_memory")),
        (Column("download", "Download", "MB", 2), of("download_size")),
        *(pair for split in facts.splits[1:] for pair in scores(split)),
    ]


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
    found = speedup(row, facts.target)
    if found is None and facts.reference is not None and row.name == facts.reference.name:
        return Cell(words.times(1.0))
    whole = find(row.measurements, "end_to_end_speedup", target=facts.target)
    return faster_cell(found, whole, notes)


def _verdict(row: Row, result: RunResult) -> Cell:
    if row.kind == "reference":
        return Cell("failed" if row.error else "reference")
    if row.name == result.winner:
        return Cell("chosen", tone="chosen")
    if not row.tried:
        return Cell("left out", tone="error")
    summed = state(row)
    if summed in ("", "pass", "error"):
        return Cell(VERDICTS.get(summed, words.MISSING), tone=summed)
    bad = [verdict for verdict in row.verdicts if verdict.state == summed]
    return Cell(VERDICTS[summed], "; ".join(map(shortfall, bad)), tone=summed)
