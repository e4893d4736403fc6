"""Confusion matrices as tables, and what is confused most; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgecompress.report import words
from edgecompress.report.blocks import Block, Folded, Heading, Remark
from edgecompress.report.blocks import name as named
from edgecompress.report.facts import is_teacher
from edgecompress.report.table import Cell, Column, Table, table_of
from edgecompress.results import Row, RunResult

MOST_PAIRS = 8
"""Pairs of classes listed."""


def confusions(result: RunResult, shown: Row | None) -> tuple[Block, ...]:
    """Lay out what the chosen model and the teacher confuse; nothing where nothing was counted."""
    found = result.answers
    classes, rows = found.get("classes"), found.get("rows")
    if not isinstance(classes, list | tuple) or not isinstance(rows, Mapping) or shown is None:
        return ()
    names = {shown.name: shown.name, "teacher": "teacher (PyTorch)"}
    labels = tuple(map(str, classes))
    counts = {
        title: matrix
        for name, title in names.items()
        if (matrix := _matrix(rows.get(name), len(labels))) is not None
    }
    if not counts or is_teacher(shown):
        return ()
    counted = words.plain(found.get("counted", ""))
    joined = "; B- and I- tags of one type count together" if counted == "words" else ""
    said = (
        f"{counted.capitalize()} of the {words.plain(found.get('split', ''))} split, by the right "
        f"class and the one that was answered{joined}. The colour is the share of the line."
    )
    first, *others = ((name, _drawn(name, labels, matrix)) for name, matrix in counts.items())
    return (
        Remark(said),
        *_pairs(labels, counts),
        Heading(named(first[0])),
        first[1],
        *(Folded(f"The same of {named(name)}", (table,)) for name, table in others),
    )


def _pairs(labels: tuple[str, ...], counts: Mapping[str, Sequence[Sequence[int]]]) -> list[Table]:
    """List what is confused most by the first model."""
    first = next(iter(counts.values()))
    size = range(len(labels))
    wrong = [(right, said) for right in size for said in size if right != said]
    wrong = [pair for pair in wrong if first[pair[0]][pair[1]]]
    wrong.sort(key=lambda pair: -first[pair[0]][pair[1]])
    lines = [
        (
            labels[right],
            (Cell(labels[said]), *(Cell(str(one[right][said])) for one in counts.values())),
        )
        for right, said in wrong[:MOST_PAIRS]
    ]
    columns = (Column("said", "Answered", kind="words"), *(Column(name, name) for name in counts))
    return [table_of("Most confused", "Right", columns, lines, sortable=True)] if lines else []


def _matrix(found: object, size: int) -> Sequence[Sequence[int]] | None:
    """Read a square of counts; what is none counts as missing."""
    if not isinstance(found, list | tuple) or len(found) != size:
        return None
    for line in found:
        if not isinstance(line, list | tuple) or len(line) != size:
            return None
        if not all(isinstance(count, int) and count >= 0 for count in line):
            return None
    return found


def _drawn(name: str, labels: tuple[str, ...], matrix: Sequence[Sequence[int]]) -> Table:
    lines = []
    for right, counts in enumerate(matrix):
        total = sum(counts)
        cells = [
            Cell(
                str(count or "·"),
                tone="" if not count else "hit" if right == said else "slip",
                share=count / total if total else 0.0,
                hover=f"{labels[right]} answered as {labels[said]}: {count:,} of {total:,}",
            )
            for said, count in enumerate(counts)
        ]
        share = f"{counts[right] / total:.0%}" if total else words.MISSING
        lines.append((labels[right], (*cells, Cell(share, tone="quiet"))))
    columns = (*(Column(label, label) for label in labels), Column("right", "right"))
    caption = f"Confusion matrix of {name}"
    style = "sticky fit confusion"
    return table_of(caption, "right ↓ answered →", columns, lines, style=style)
