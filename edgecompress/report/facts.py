"""What every report needs to know of a result before it draws anything; pure.

Which row is the reference, which metric is the task's, which split and target are shown, in which
order rows stand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgecompress.all_metrics import is_failure, metric
from edgecompress.metrics import ANSWERS
from edgecompress.report import words
from edgecompress.results import BY, FLOOR, Row, RunResult, Verdict
from edgecompress.tasks import task, task_names
from edgecompress.values import Measurement, Step, find

REFERENCE = "onnx-fp32"
"""The teacher's fp32 export: what every ratio is measured against."""
TUNED = "onnx-fp32-tuned"
HERE = "local"
"""The machine that ran the recipe, as measurements name it."""
TRAINS = ("finetune", "distil")
"""Stages whose result depends on the seed."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is shown of a result.

    Attributes
    ----------
    primary : str or None
        The task's main metric; None when nothing was scored.
    split : str or None
        The split whose accuracy is shown first: ``test`` where a row has it.
    splits : tuple of str
        Every split that was scored, `split` first.
    targets : tuple of str
        Where anything was measured or was to be, in the recipe's order.
    target : str or None
        The target of the main table and of running text: the first where latency was measured,
        else the first.
    teacher, reference, floor, winner : Row or None
    nearest : Row or None
        The candidate that misses the budget by least, where there is no winner.
    rows : tuple of Row
        References, then the winner, then the others: passed, undecided, failed the budget, broken.
    """

    primary: str | None
    split: str | None
    splits: tuple[str, ...]
    targets: tuple[str, ...]
    target: str | None
    teacher: Row | None
    reference: Row | None
    floor: Row | None
    winner: Row | None
    nearest: Row | None
    rows: tuple[Row, ...]

    @property
    def several(self) -> bool:
        """Whether a number must say where it holds: there is another target than this machine."""
        return bool(set(self.targets) - {HERE})

    @property
    def exported(self) -> str:
        """Say how the reference was exported: as Optimum does, or plainly by PyTorch."""
        steps = self.reference.steps if self.reference else ()
        plain = any(step.decisions.get("exporter") == "dynamo" for step in steps)
        return "plain dynamo" if plain else "stock"

    @property
    def where(self) -> str:
        """Give what running text adds to a number of the main target: `` on pi4``, or nothing."""
        return f" on {words.plain(self.target)}" if self.several and self.target else ""

    @property
    def candidates(self) -> tuple[Row, ...]:
        """Rows that are candidates, in the order shown."""
        return tuple(row for row in self.rows if row.kind == "candidate")

    @property
    def references(self) -> tuple[Row, ...]:
        """Rows that are references, in the order shown."""
        return tuple(row for row in self.rows if row.kind == "reference")


def gather(result: RunResult) -> Facts:
    """Work out what is shown of `result`."""
    everything = [one for row in result.rows for one in row.measurements]
    primary = _primary(result.task, everything)
    seen = {one.split for one in everything if one.metric == primary and one.split}
    splits = tuple(split for split in ("test", "validation") if split in seen)
    targets, target = _targets(result)
    return Facts(
        primary=primary,
        split=splits[0] if splits else None,
        splits=splits,
        targets=targets,
        target=target,
        teacher=next((row for row in result.rows if is_teacher(row)), None),
        reference=next(
            (row for row in result.rows if row.kind == "reference" and row.name == REFERENCE), None
        ),
        floor=next((row for row in result.rows if row.name == result.floor), None),
        winner=next((row for row in result.rows if row.name == result.winner), None),
        nearest=None if result.winner else _nearest(result),
        rows=_ordered(result),
    )


def is_teacher(row: Row) -> bool:
    """Whether `row` is the teacher in PyTorch."""
    return row.kind == "reference" and row.name.split(" ")[0] == "teacher"


def display_name(row: Row) -> str:
    """Name a row on screens; the teacher always says where it ran."""
    return "teacher (PyTorch)" if is_teacher(row) else words.plain(row.name)


def short_names(rows: Sequence[Row]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Shorten candidates' names by the stages that all of them have.

    Returns
    -------
    names, common
        The name to show for each row's name, and the stages left out (none where that would make
        two names alike).
    """
    parts = {row.name: row.name.split("+") for row in rows if row.kind == "candidate"}
    full = {row.name: display_name(row) for row in rows}
    first = next(iter(parts.values()), [])
    common = [one for one in first if all(one in part for part in parts.values())]
    if any(set(part) <= set(common) for part in parts.values()):
        common = common[:-1]  # a chain that only has what all have keeps its last stage
    short = {
        name: words.plain("+".join(one for one in part if one not in common))
        for name, part in parts.items()
    }
    if len(parts) < 2 or not common or len(set(short.values())) < len(short):
        return full, ()
    return full | short, tuple(words.plain(one) for one in common)


def state(row: Row) -> str:
    """Sum up a candidate's verdicts: ``pass``, ``undecided``, ``fail``, ``error`` or empty."""
    if row.error:
        return "error"
    states = {verdict.state for verdict in row.verdicts}
    return next((one for one in ("fail", "undecided", "pass") if one in states), "")


def miss(row: Row) -> float:
    """How far a candidate lies beyond the budget, as a share of the bound it misses most."""
    return max((verdict.miss for verdict in row.verdicts), default=math.inf)


def limit_name(key: str) -> str:
    """Name a limit's key, ``latency_p50@local``, for a sentence."""
    if key == FLOOR:
        return "no better than answering all alike"
    name, _, each = words.plain(key).partition(BY)
    metric, _, target = name.partition("@")
    if each:
        return f"{limit_name(name)} of every {each}"
    return f"{words.label(metric)} on {target}" if target else words.label(metric)


def shortfall(verdict: Verdict) -> str:
    """Say what a verdict is about and by how much it is missed: what it is, and what is allowed.

    A failed verdict's reason is ``speedup@local: 1.92×, allowed at least 2×``
    (`edgecompress.choose`); of another the limit's name alone is said.
    """
    name = limit_name(verdict.limit)
    _, allowed, bound = words.plain(verdict.reason).rpartition(", allowed ")
    if verdict.state != "fail" or not allowed:
        return name
    value = words.plain(verdict.reason).removesuffix(f"{allowed}{bound}").rpartition(": ")[2]
    return f"{name}: {value}, allowed {bound}"


def size_ratio(row: Row, reference: Row | None) -> float | None:
    """How many times smaller `row` is than the reference; None when it is not known."""
    mine = find(row.measurements, "size")
    base = find(reference.measurements, "size") if reference else None
    if mine is None or base is None or mine.invalid or base.invalid or mine.value <= 0:
        return None
    return base.value / mine.value


def speedup(row: Row, target: str | None) -> Measurement | None:
    """Give the measured ratio of times to the reference."""
    return find(row.measurements, "speedup", target=target)


def untimed(row: Row, target: str | None) -> str:
    """Say why no speed of `row` can be claimed: its time or the ratio is invalid; empty if sound.

    A ratio may be sound where the time beside it is not, as both models were disturbed alike. Still
    nobody should claim a speed of times that the table strikes out.
    """
    every = (find(row.measurements, name, target=target) for name in ("latency_p50", "speedup"))
    return next((one.invalid for one in every if one and one.invalid), "")


def sound_speedup(row: Row, target: str | None) -> Measurement | None:
    """Give the ratio of times to the reference where a speed can be claimed (`untimed`)."""
    return None if untimed(row, target) else speedup(row, target)


def whole_speedup(row: Row, target: str | None) -> tuple[Measurement, str] | None:
    """Give the same ratio with what stands around a model, and what that is in words.

    None where it was not measured, or is not to be trusted.
    """
    found = find(row.measurements, "end_to_end_speedup", target=target)
    if found is None or found.invalid:
        return None
    tokenizer = str(found.conditions.get("covers")).startswith("tokenizer")
    return found, "with the tokenizer" if tokenizer else "from input to answer"


def drop(row: Row, facts: Facts, split: str | None) -> Measurement | None:
    """Give the measured loss of the primary metric against the teacher."""
    if facts.primary is None:
        return None
    return scored(row, f"{facts.primary}_drop", facts, split)


def worst_loss(row: Row, facts: Facts, split: str | None) -> Measurement | None:
    """Give the largest loss that `row` has on a data file; None where there are no two files.

    What is pooled over files hides it: a file of which the others have many times the examples
    hardly counts.
    """
    lost = metric(facts.primary or "").difference("teacher").name
    found = [
        one
        for one in row.measurements
        if one.metric == lost
        and one.split == split
        and one.target == facts.target
        and (one.slice or "").startswith("file:")
        and not one.invalid
        and math.isfinite(one.value)
    ]
    return max(found, key=lambda one: one.value) if len(found) > 1 else None


def scored(
    row: Row, metric: str, facts: Facts, split: str | None, slice: str | None = None
) -> Measurement | None:
    """Find what depends on data; a reference may have been scored on another target."""
    exact = find(row.measurements, metric, target=facts.target, split=split, slice=slice)
    if exact is None and row.kind == "reference":
        return find(row.measurements, metric, split=split, slice=slice)
    return exact


def failures(row: Row) -> tuple[Measurement, ...]:
    """Give what stands for all that a target did not give of `row`, with the reason."""
    return tuple(one for one in row.measurements if is_failure(one))


def _nearest(result: RunResult) -> Row | None:
    missed = [
        row
        for row in result.rows
        if row.kind == "candidate" and state(row) in ("fail", "undecided", "pass")
    ]
    # The verdict names it; a longer name may start with a shorter one.
    named = [row for row in missed if result.verdict.reason.startswith(f"nearest is {row.name}: ")]
    if named:
        return max(named, key=lambda row: len(row.name))
    return min(missed, key=lambda row: (state(row) == "fail", miss(row)), default=None)


def _primary(name: str | None, measurements: list[Measurement]) -> str | None:
    """Find the task's first metric; of a task that is not installed, the one that is compared."""
    found = dict.fromkeys(one.metric for one in measurements if one.slice is None)
    declared = [one.name for one in task(name).metrics] if name in task_names() else []
    compared = [metric(one).of for one in found]
    others = [one for one in sorted(found, key=words.place) if metric(one).needs == ANSWERS]
    return next((one for one in (*declared, *compared, *others) if one in found), None)


def _targets(result: RunResult) -> tuple[tuple[str, ...], str | None]:
    """Give all targets, and the one of the main table."""
    # The teacher in PyTorch runs on this machine, also where the recipe does not name it.
    rows = [row for row in result.rows if not is_teacher(row)] or list(result.rows)
    found = [one for row in rows for one in row.measurements if one.target]
    asked = result.recipe.get("targets")
    named = [str(one) for one in asked] if isinstance(asked, list | tuple) else []
    measured = dict.fromkeys(str(one.target) for one in found)
    timed = {one.target for one in found if one.metric == "latency_p50" and one.slice is None}
    every = tuple(dict.fromkeys([*(one for one in named if one in measured), *measured]))
    return every, next((one for one in every if one in timed), next(iter(every), None))


def _ordered(result: RunResult) -> tuple[Row, ...]:
    def rank(row: Row) -> tuple[int, float]:
        if row.kind == "reference":
            order = 0 if is_teacher(row) else {REFERENCE: 1, TUNED: 2}.get(row.name, 3)
            return (order, 0.0)
        if row.name == result.winner:
            return (4, 0.0)
        place = {"pass": 5, "": 5, "undecided": 6, "fail": 7, "error": 8}[state(row)]
        return (place, miss(row) if place in (6, 7) else 0.0)

    return tuple(sorted(result.rows, key=rank))


def trained(steps: Sequence[Step]) -> bool:
    """Whether a step's result depends on the seed: another one would give another model."""
    return any(step.stage in TRAINS or "epochs" in step.parameters for step in steps)


def quantized(steps: Sequence[Step]) -> bool:
    """Whether the model computes with 8 bits, which processors do in different ways."""
    return any(step.stage.startswith("quantize.") for step in steps)
