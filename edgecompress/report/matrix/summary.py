"""From the results of all cells to lines of tables: medians over seeds, means over languages; pure.

Seeds are repetitions: of every model the median over them is shown, with the smallest and the
largest. All other axes make groups. What only some seeds gave, or gave with a reason not to be
trusted, says so.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgecompress.machine_metrics import MACHINES
from edgecompress.report import words
from edgecompress.report.facts import Facts, drop, gather, scored
from edgecompress.report.matrix.values import SEED, CellResult, MatrixResult
from edgecompress.results import Row
from edgecompress.values import Measurement, find

SCORE, LOST = "score", "lost"
METRICS = (SCORE, LOST, *(one.name for one in MACHINES if one.compared))
"""What is summed up: the task's metric on test, what is lost of it against the teacher, and what
the model costs."""
PLAIN = ("export", "fuse")
"""Stages that change no answer, and so stand in no name."""
TRAINS = ("finetune", "distil")
TAUGHT, UNTAUGHT = "zeros, then trained", "zeros, not trained again"


@dataclass(frozen=True, slots=True)
class Spread:
    """A value over repetitions: median (of means: mean), smallest and largest, and how many.

    Of a loss without repetitions the ends are its interval over the examples.
    """

    value: float
    low: float
    high: float
    count: int
    unit: str
    invalid: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """One model of a group.

    Attributes
    ----------
    name : str
        The candidate's name in the cells' results.
    kind : str
        ``candidate`` or ``reference``.
    model, scheme : str
        What was done to the weights, and how they are quantized (``fp32``: not at all), in words.
    series : str
        `model` without the sparsity: what a line of a plot joins.
    sparsity : float or None
        Share of the weights that are zero by magnitude pruning; None where it was not done.
    readings : mapping
        Spreads by `METRICS`; what was not measured is absent.
    failures : tuple of str
        Why it could not be made, by seed.
    tried : bool
        False where it cannot be made of this model, which was known before any work.
    """

    name: str
    kind: str
    model: str
    scheme: str
    series: str
    sparsity: float | None = None
    readings: Mapping[str, Spread] = field(default_factory=dict)
    failures: tuple[str, ...] = ()
    tried: bool = True


@dataclass(frozen=True, slots=True)
class Group:
    """The models of one language (and of one value on each further axis), or a mean of groups.

    `of` counts the repetitions: seeds that are finished, or groups in the mean.
    """

    name: str
    values: Mapping[str, str | int | float | bool]
    lines: tuple[Model, ...]
    of: int
    primary: str | None = None
    split: str | None = None
    mean: bool = False

    def line(self, name: str) -> Model | None:
        """Find a line by its name."""
        return next((line for line in self.lines if line.name == name), None)


def groups(matrix: MatrixResult) -> tuple[Group, ...]:
    """Sum up the finished cells of every group, in the order of the axes."""
    found: dict[tuple[str, ...], list[CellResult]] = {}
    for cell in matrix.of("finished"):
        key = tuple(str(value) for axis, value in cell.values.items() if axis != SEED)
        found.setdefault(key, []).append(cell)
    return tuple(_group(key, cells) for key, cells in found.items())


def means(matrix: MatrixResult, of: Sequence[Group]) -> tuple[Group, ...]:
    """Average groups over the first axis that is not the seed (or over `language`).

    Of further axes each combination gets a mean of its own. None where there is only one group, or
    where groups are judged by different metrics.
    """
    axis = mean_axis(matrix)
    if axis is None:
        return ()
    sets: dict[tuple[str, ...], list[Group]] = {}
    for group in of:
        key = tuple(str(value) for name, value in group.values.items() if name != axis)
        sets.setdefault(key, []).append(group)
    return tuple(
        _mean(axis, key, found)
        for key, found in sets.items()
        if len(found) > 1 and len({group.primary for group in found}) == 1
    )


def mean_axis(matrix: MatrixResult) -> str | None:
    """Name the axis that means are taken over."""
    axes = [axis for axis in matrix.axes if axis != SEED]
    return "language" if "language" in axes else next(iter(axes), None)


def _group(key: tuple[str, ...], cells: Sequence[CellResult]) -> Group:
    results = [(cell, cell.result) for cell in cells if cell.result is not None]
    facts = [gather(result) for _, result in results]
    rows: dict[str, list[tuple[CellResult, Row, Facts]]] = {}
    for (cell, result), known in zip(results, facts, strict=True):
        for row in result.rows:
            rows.setdefault(row.name, []).append((cell, row, known))
    lines = tuple(_line(name, found) for name, found in rows.items())
    first = facts[0] if facts else None
    return Group(
        name=", ".join(key) or "all",
        values={axis: value for axis, value in cells[0].values.items() if axis != SEED},
        lines=_distinct(lines),
        of=len(results),
        primary=first.primary if first else None,
        split=first.split if first else None,
    )


def _line(name: str, found: Sequence[tuple[CellResult, Row, Facts]]) -> Model:
    row = found[0][1]
    readings = {}
    for metric in METRICS:
        values = [one for _, row, facts in found if (one := _reading(row, metric, facts))]
        spread = _spread(values)
        if spread is not None and metric == LOST and len(values) == 1 and values[0].interval:
            low, high = values[0].interval  # no repetition says more than the examples do
            spread = replace(spread, low=low, high=high)
        if spread is not None:
            readings[metric] = spread
    failures = tuple(
        f"seed {cell.values[SEED]}: {words.plain(row.error)}"
        if SEED in cell.values
        else words.plain(row.error)
        for cell, row, _ in found
        if row.error
    )
    model, scheme, series, sparsity = describe(row)
    tried = any(row.tried for _, row, _ in found)
    return Model(name, row.kind, model, scheme, series, sparsity, readings, failures, tried)


def _reading(row: Row, metric: str, facts: Facts) -> Measurement | None:
    if metric == SCORE:
        return scored(row, facts.primary, facts, facts.split) if facts.primary else None
    if metric == LOST:
        return drop(row, facts, facts.split)
    return find(row.measurements, metric, target=facts.target)


def _spread(found: Sequence[Measurement]) -> Spread | None:
    """Give the median of the readings that are sound; where none is, that of all, marked."""
    finite = [one for one in found if math.isfinite(one.value)]
    sound = [one for one in finite if not one.invalid]
    used = sound or finite
    if not used:
        return None
    values = [one.value for one in used]
    reason = None if sound else used[0].invalid
    return Spread(
        statistics.median(values), min(values), max(values), len(values), used[0].unit, reason
    )


def describe(row: Row) -> tuple[str, str, str, float | None]:
    """Say in words what a row's chain does.

    Returns
    -------
    model, scheme, series, sparsity
        See `Model`.
    """
    if row.kind == "reference":
        return ("the teacher" if row.name == "teacher" else words.plain(row.name)), "", "", None
    stages = [label.partition("(")[0] for label in row.chain]
    stored = [part.removeprefix("quantize.") for part in row.name.partition("#")[0].split("+")
              if part.startswith("quantize.")]  # fmt: skip
    scheme = words.plain(" + ".join(stored)) or "fp32"
    body = [
        (stage, label)
        for stage, label in zip(stages, row.chain, strict=True)
        if stage not in PLAIN and not stage.startswith("quantize.")
    ]
    pruned = [index for index, (stage, _) in enumerate(body) if stage == "prune.magnitude"]
    share = re.search(r"\bsparsity=([0-9.eE+-]+)", body[pruned[0]][1]) if len(pruned) == 1 else None
    sparsity = float(share[1]) if share else None
    pattern = re.search(r"\bpattern=(\d+:\d+)", body[pruned[0]][1]) if len(pruned) == 1 else None
    # The candidate's own name holds the fields that differ, and only those.
    parts = [
        part
        for part in row.name.split("+")
        if part.partition("(")[0] not in PLAIN and not part.startswith("quantize.")
    ]
    name = words.plain("+".join(parts)) or "fp32"
    others = {stage for stage, _ in body} - {"prune.magnitude", "finetune"}
    if (sparsity is not None or pattern) and not others:
        later = any(stage in TRAINS for stage, _ in body[pruned[0] + 1 :])
        series = TAUGHT if later else UNTAUGHT
        if pattern:  # no point of the line that joins shares of zeros that stand anywhere
            return f"{pattern[1]} {series}", scheme, series, None
        return f"{sparsity:.0%} {series}", scheme, series, sparsity
    if not others and sparsity is None and not pruned:
        return "as it is", scheme, "as it is", None
    series = re.sub(r"\(\)", "", re.sub(r"sparsity=[^,)]*,?", "", name))
    return name, scheme, series, sparsity


def _distinct(lines: tuple[Model, ...]) -> tuple[Model, ...]:
    """Give lines that would read alike the candidate's own name."""
    shown = [(line.model, line.scheme) for line in lines]
    return tuple(
        replace(line, model=words.plain(line.name)) if shown.count(pair) > 1 else line
        for line, pair in zip(lines, shown, strict=True)
    )


def _mean(axis: str, key: tuple[str, ...], found: Sequence[Group]) -> Group:
    names = dict.fromkeys(line.name for group in found for line in group.lines)
    lines = []
    for name in names:
        mine = [line for group in found if (line := group.line(name))]
        readings = {
            metric: spread
            for metric in METRICS
            if (spread := _mean_spread([line.readings.get(metric) for line in mine]))
        }
        failures = tuple(dict.fromkeys(text for line in mine for text in line.failures))
        lines.append(replace(mine[0], readings=readings, failures=failures))
    further = f", {', '.join(key)}" if key else ""
    values = {name: value for name, value in found[0].values.items() if name != axis}
    return Group(
        name=f"mean of {len(found)} {axis}s{further}",
        values=values,
        lines=tuple(lines),
        of=len(found),
        primary=found[0].primary,
        split=found[0].split,
        mean=True,
    )


def _mean_spread(found: Sequence[Spread | None]) -> Spread | None:
    used = [one for one in found if one is not None and not one.invalid]
    if not used:
        return next((one for one in found if one is not None), None)
    values = [one.value for one in used]
    return Spread(statistics.fmean(values), min(values), max(values), len(values), used[0].unit)
