"""Confusion matrices as the page shows them, and what is confused most; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgecompress.report import words
from edgecompress.report.facts import is_teacher
from edgecompress.values import Row, RunResult

MOST_PAIRS = 8
"""Pairs of classes listed."""


@dataclass(frozen=True, slots=True)
class Count:
    """A field of a matrix: its count, its share of the line, and whether the answer is right."""

    count: int
    share: float
    hit: bool
    hover: str


@dataclass(frozen=True, slots=True)
class ClassLine:
    """A right class: what was answered, and the share of it that was right."""

    name: str
    cells: tuple[Count, ...]
    right: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """One model's matrix."""

    name: str
    classes: tuple[str, ...]
    lines: tuple[ClassLine, ...]


@dataclass(frozen=True, slots=True)
class Confusions:
    """All matrices, that of the model shown first; `pairs`: right, answered, a count per model."""

    split: str
    counted: str
    models: tuple[Matrix, ...]
    names: tuple[str, ...]
    pairs: tuple[tuple[str, str, tuple[int, ...]], ...]


def confusions(result: RunResult, shown: Row | None) -> Confusions | None:
    """Lay out what the chosen model and the teacher confuse; None where nothing was counted."""
    found = result.answers
    classes, rows = found.get("classes"), found.get("rows")
    if not isinstance(classes, list | tuple) or not isinstance(rows, Mapping) or shown is None:
        return None
    names = {shown.name: words.plain(shown.name), "teacher": "teacher (PyTorch)"}
    labels = tuple(map(str, classes))
    counts = {
        title: matrix
        for name, title in names.items()
        if (matrix := _matrix(rows.get(name), len(labels))) is not None
    }
    if not counts or is_teacher(shown):
        return None
    first = next(iter(counts.values()))
    wrong = [
        (first[right][said], right, said)
        for right in range(len(labels))
        for said in range(len(labels))
        if right != said and first[right][said]
    ]
    pairs = tuple(
        (labels[right], labels[said], tuple(matrix[right][said] for matrix in counts.values()))
        for _, right, said in sorted(wrong, key=lambda one: -one[0])[:MOST_PAIRS]
    )
    return Confusions(
        words.plain(found.get("split", "")),
        words.plain(found.get("counted", "")),
        tuple(_drawn(name, labels, matrix) for name, matrix in counts.items()),
        tuple(counts),
        pairs,
    )


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


def _drawn(name: str, labels: tuple[str, ...], matrix: Sequence[Sequence[int]]) -> Matrix:
    lines = []
    for right, counts in enumerate(matrix):
        total = sum(counts)
        cells = tuple(
            Count(
                count,
                count / total if total else 0.0,
                right == said,
                f"{words.plain(labels[right])} answered as {words.plain(labels[said])}: {count:,} "
                f"of {total:,}",
            )
            for said, count in enumerate(counts)
        )
        share = f"{counts[right] / total:.0%}" if total else words.MISSING
        lines.append(ClassLine(labels[right], cells, share))
    return Matrix(name, labels, tuple(lines))
