"""How one model was measured, with what result, and what was not: for the model card; pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from edgecompress.all_metrics import is_failure
from edgecompress.all_metrics import metric as declared
from edgecompress.machine_metrics import MACHINES
from edgecompress.metrics import ANSWERS
from edgecompress.report import words
from edgecompress.report.facts import HERE, Facts, display_name, quantized, scored
from edgecompress.report.table import (
    Cell,
    Column,
    Notes,
    Table,
    cell_of,
    loss_cell,
    sampled,
    table_of,
)
from edgecompress.report.targets import describe_targets, gap_words, gaps
from edgecompress.report.targets_table import differing, targets_table
from edgecompress.report.variants import variant_tables
from edgecompress.results import Row, RunResult
from edgecompress.values import Measurement, find

SIZES = tuple(one.name for one in MACHINES if one.needs is None)
_TIMED = [one for one in MACHINES if one.needs in ("latency", "memory", "energy") and one.bounded]
TIMES = tuple(one.name for one in _TIMED if one.unit in ("ms", "x", "bytes", "mJ"))
EXPECTED = tuple(one.name for one in _TIMED if one.headline)
"""What a reader looks for on every real target, and is told of where there is none."""


def method(result: RunResult, facts: Facts, row: Row) -> Iterator[str]:
    """Say on what, with what settings and how often it was measured."""
    score = scored(row, facts.primary or "", facts, facts.split)
    lost = find(row.measurements, f"{facts.primary}_drop", split=facts.split)
    finished = [one for one in facts.candidates if not one.error]
    if len(finished) > 1:
        yield (
            f"{len(finished)} candidates were compared on validation"
            + ("; test was read once, after the choice." if facts.split == "test" else ".")
        )
    if score is not None:
        where = listing(one for one in facts.targets if _answered(row, facts, one))
        yield (
            f"Answers: one input at a time, as it is deployed, given by the ONNX file on {where}; "
            f"{words.title(score.metric)} is over {score.samples:,} examples of {score.split}."
        )
    if lost is not None and lost.interval is not None:
        times = lost.conditions.get("resamples")
        drawn = f" of {times:,} resamples" if isinstance(times, int) else ""
        yield (
            "Against the teacher: the same examples, with the 95 % interval of a paired "
            f"bootstrap{drawn}."
        )
    for target in facts.targets:
        yield from _timed(row, target, facts.exported)
    here = result.environment
    if not facts.several and here.get("cpu"):
        cpu = here["cpu"].get("model") if isinstance(here["cpu"], Mapping) else here["cpu"]
        parts = [words.plain(cpu)]
        cores = here.get("cores")
        parts += [words.counted(cores, "core")] if cores else []
        parts += [words.plain(here[key]) for key in ("system", "os") if here.get(key)]
        libraries = here.get("libraries")
        if isinstance(libraries, Mapping) and libraries.get("onnxruntime"):
            parts.append(f"ONNX Runtime {words.plain(libraries['onnxruntime'])}")
        yield f"{HERE} is {', '.join(parts)}."


def listing(names: Iterator[str] | Sequence[str]) -> str:
    """Join the names of targets."""
    return ", ".join(map(words.plain, names)) or "this machine"


def _answered(row: Row, facts: Facts, target: str) -> bool:
    return any(one.target == target and one.metric == facts.primary for one in row.measurements)


def _timed(row: Row, target: str, exported: str) -> Iterator[str]:
    time = find(row.measurements, "latency_p50", target=target)
    if time is not None and time.samples:
        said = time.conditions
        threads, inputs = said.get("threads"), said.get("inputs")
        tokens = said.get("tokens")
        parts = [f"{time.samples:,} inferences", f"batch {said.get('batch', 1)}"]
        if threads:
            parts.append(words.counted(threads, "thread"))
        if isinstance(inputs, int):
            lengths = (
                f" of {tokens.get('min')} to {tokens.get('max')} tokens"
                if isinstance(tokens, Mapping)
                else ""
            )
            parts.append(f"{inputs} inputs{lengths}")
        yield (
            f"Times on {words.plain(target)}: {', '.join(parts)}, interleaved with the {exported} "
            "fp32 export, so that the ratio is not of two readings from different minutes."
        )
    memory = find(row.measurements, "peak_memory", target=target)
    if memory is not None and memory.samples:
        starts = f"{memory.samples} fresh process{'' if memory.samples == 1 else 'es'}"
        none = "" if memory.interval else "; too few for an interval"
        yield f"Cold start and memory on {words.plain(target)}: {starts}{none}."


def tables(result: RunResult, facts: Facts, row: Row) -> Iterator[Table]:
    """Lay out size and answers, then speed and memory by target, each next to the references."""
    rows = [one for one in (facts.teacher, facts.reference) if one is not None]
    scored_too = [facts.floor] if facts.floor is not None else []
    lines: list[tuple[str, _Make]] = [(_head(one, row), _plain(one, None)) for one in SIZES]
    for split in facts.splits:
        lines += _answers(facts, row, split)
    yield from _table("Size and answers", [*scored_too, *rows, row], lines)
    for target in facts.targets:
        lines = [(_head(metric, row), _plain(metric, target)) for metric in TIMES]
        where = f" on {target}" if facts.several or target != HERE else ""
        yield from _table(f"Speed and memory{where}", [*rows, row], lines)
    only = [one for one in (facts.reference, row if facts.winner else None) if one]
    if wide := targets_table(facts, describe_targets(result, facts), only):
        yield replace(wide, caption="On every target")
    yield from (
        replace(side, remarks=())
        for side in variant_tables(facts, row)
        if side.heading == "Setting"
    )


_Make = Callable[[Row, Notes], Cell]


def _plain(metric: str, target: str | None) -> _Make:
    return lambda row, notes: cell_of(find(row.measurements, metric, target=target), notes)


def _answers(facts: Facts, row: Row, split: str) -> list[tuple[str, _Make]]:
    """Lay out everything that was scored on a split, the task's own metric first."""
    primary = facts.primary or ""
    found = dict.fromkeys(
        one.metric
        for one in row.measurements
        if one.split == split and one.slice is None and declared(one.metric).needs == ANSWERS
    )
    rest = [one for one in found if one != primary and not declared(one).lost and "host" not in one]

    def score(metric: str) -> _Make:
        def make(each: Row, notes: Notes) -> Cell:
            one = scored(each, metric, facts, split)
            return cell_of(one, notes, sampled(one))

        return make

    def lost(each: Row, notes: Notes) -> Cell:
        return loss_cell(scored(each, f"{primary}_drop", facts, split), notes)

    def head(metric: str) -> str:
        sign = words.sign(declared(metric).unit)
        return f"{words.title(metric)}, {split}{', ' if sign else ''}{sign}"

    out = [(head(primary), score(primary)), (f"{words.title(primary)} vs teacher, {split}", lost)]
    return out + [(head(one), score(one)) for one in rest]


def _head(metric: str, row: Row) -> str:
    found = find(row.measurements, metric)
    sign = words.sign(found.unit if found else declared(metric).unit)
    return f"{words.title(metric)}{', ' if sign else ''}{sign}"


def _table(caption: str, rows: Sequence[Row], lines: list[tuple[str, _Make]]) -> Iterator[Table]:
    """Lay out metrics by model; those that this model, the last, has nothing of are left out."""
    notes = Notes()
    filled = [
        (name, cells)
        for name, make in lines
        if not (cells := [make(row, notes) for row in rows])[-1].missing
    ]
    own = Column("own", "this model", strong=True)
    columns = (*(Column(one.name, display_name(one)) for one in rows[:-1]), own)
    if filled:
        yield table_of(caption, "", columns, filled, notes.texts)


def elsewhere(facts: Facts, row: Row) -> Iterator[str]:
    """Say where it answers otherwise than on the machine that ran the recipe."""
    yield from (f"{text}." for text in differing(facts, row))
    same = []
    for target in facts.targets:
        found = find(row.measurements, "host_difference", target=target, split=facts.split)
        if found is not None and not found.invalid and found.value == 0:
            asked = sampled(found)
            same.append(f"{words.plain(target)}{f' ({asked})' if asked else ''}")
    if same:
        yield f"Every answer is that of the machine that ran the recipe: {', '.join(same)}."
    if not set(facts.targets) - {HERE}:
        why = (
            "; 8-bit arithmetic differs between processors, so ask yours: name it under targets"
            if quantized(row.steps)
            else ""
        )
        yield f"No other processor was asked{why}."


def missing(facts: Facts, row: Row) -> Iterator[str]:
    """Say what is not valid and what is not there, with the reason where one is known."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in row.measurements:
        if is_failure(one) or not (one.invalid or not math.isfinite(one.value)):
            continue
        why = words.plain(one.invalid or "the value is not a finite number")
        name = words.label(one.metric) + (f" ({words.plain(one.slice)})" if one.slice else "")
        reasons.setdefault((words.plain(one.target or HERE), why), []).append(name)
    for (target, why), names in reasons.items():
        yield f"Not valid on {target}: {', '.join(dict.fromkeys(names))}: {why}."
    for gap in gaps(facts):
        if display_name(row) in gap.models:
            whose, why = gap_words(gap)
            yield f"Not measured: {whose}: {why}."
    for target in facts.targets:
        mine = [one for one in row.measurements if one.target == target]
        if not mine or any(is_failure(one) for one in mine):
            continue
        absent = [metric for metric in EXPECTED if not _any(mine, metric)]
        if absent and not _any(mine, "instructions"):
            yield f"Not measured on {words.plain(target)}: {', '.join(map(words.label, absent))}."
        elif absent:
            yield f"Not measured on {words.plain(target)}, which is emulated: time and memory."
    if facts.primary and facts.split != "test":
        yield "Not measured: anything on test; the figures are those it was chosen by."


def _any(measured: Sequence[Measurement], metric: str) -> bool:
    return any(one.metric == metric for one in measured)
