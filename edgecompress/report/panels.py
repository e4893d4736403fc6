"""What stands under the table: stages, slices, losers, further readings; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgecompress.all_metrics import metric
from edgecompress.metrics import ANSWERS, OBSERVERS
from edgecompress.report import words
from edgecompress.report.facts import Facts, display_name, drop, scored, state
from edgecompress.values import Json, Measurement, Row, RunResult, find


@dataclass(frozen=True, slots=True)
class Change:
    """A value and how it differs from the one before; `good` is None where neither is better."""

    text: str = words.MISSING
    change: str = ""
    good: bool | None = None


@dataclass(frozen=True, slots=True)
class StageLine:
    """What was measured after one stage."""

    stage: str
    size: Change
    accuracy: Change
    latency: Change
    took: str = words.MISSING


@dataclass(frozen=True, slots=True)
class SliceLine:
    """One file or label: teacher against the candidate shown.

    `share` is the difference as a share of the largest one in the table, −1 to 1, for its bar.
    `count`, `value` and `change` are the examples, the value shown and the difference as numbers.
    """

    name: str
    samples: str
    teacher: str
    shown: str
    difference: str
    share: float
    invalid: str | None = None
    count: int = 0
    value: float = math.nan
    change: float = math.nan


@dataclass(frozen=True, slots=True)
class Slices:
    """A table of slices: ``Data file`` or ``Label``, with its metric and split."""

    heading: str
    metric: str
    split: str
    lines: tuple[SliceLine, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """One metric over the references and the candidate shown."""

    name: str
    values: tuple[str, ...]
    invalid: tuple[bool, ...]


def subject(facts: Facts) -> Row | None:
    """Give the candidate that details are shown of: the winner, else the nearest miss."""
    return facts.winner or facts.nearest


def stage_lines(row: Row) -> tuple[StageLine, ...]:
    """Read `row.stages`; what an entry lacks, or has of a wrong kind, is shown as missing."""
    lines = []
    before: Json = {}
    for entry in row.stages:
        if not isinstance(entry, Mapping):
            continue
        now = _entry(entry)
        seconds = now["seconds"]
        comparable = now["metric"] == before.get("metric", now["metric"])
        lines.append(
            StageLine(
                stage=words.plain(entry.get("stage") or words.MISSING),
                size=_change(now["size"], before.get("size"), "bytes", up=False),
                accuracy=_change(
                    now["value"],
                    before.get("value") if comparable else None,
                    metric(now["metric"]).unit,
                    up=metric(now["metric"]).higher_is_better,
                ),
                latency=_change(now["latency"], before.get("latency"), "ms", up=False),
                took=f"{words.significant(seconds)} s" if seconds else words.MISSING,
            )
        )
        before |= {key: one for key, one in now.items() if one not in (None, "")}
    return tuple(lines)


def stage_metric(row: Row) -> str:
    """Name the metric that `row.stages` holds, for the column's title."""
    names = (_entry(entry)["metric"] for entry in row.stages if isinstance(entry, Mapping))
    return words.title(next((name for name in names if name), "accuracy"))


def _entry(entry: Mapping[str, object]) -> Json:
    """Read one entry of `Row.stages`, by the short or the long name of each key."""
    named = next((name for name in entry if metric(name).needs == ANSWERS), "")
    return {
        "metric": str(entry.get("metric") or named),
        "value": _finite(entry.get("value", entry.get(named))),
        "size": _finite(entry.get("size_bytes", entry.get("size"))),
        "latency": _finite(entry.get("latency_ms", entry.get("latency_p50"))),
        "seconds": _finite(entry.get("seconds")),
    }


def slices(facts: Facts, row: Row | None) -> tuple[Slices, ...]:
    """Compare teacher and `row` on every data file (and so language) and every label."""
    if row is None or facts.teacher is None:
        return ()
    found = (
        _slices(facts, row, facts.teacher, "file:", "Data file"),
        _slices(facts, row, facts.teacher, "label:", "Label"),
    )
    return tuple(one for one in found if one is not None)


def losers(facts: Facts) -> tuple[tuple[Row, str], ...]:
    """Give every finished candidate that was not chosen, with the reason."""
    return tuple(
        (row, words.plain(row.lost or _reasons(row) or "no reason was recorded"))
        for row in facts.candidates
        if row is not facts.winner and state(row) != "error"
    )


def failed(facts: Facts) -> tuple[tuple[Row, str], ...]:
    """Give every row that could not be made, with the reason."""
    return tuple((row, str(row.error)) for row in facts.rows if row.error)


def readings(facts: Facts, row: Row | None) -> tuple[tuple[str, ...], tuple[Reading, ...]]:
    """Lay out every whole-data metric of the references and `row`: headings, then lines."""
    rows = [*facts.references, *([row] if row else [])]
    keys = dict.fromkeys(
        (one.metric, one.split, one.target, one.unit)
        for each in rows
        for one in each.measurements
        if one.slice is None and one.metric not in OBSERVERS
    )
    lines = []
    for name, split, target, unit in sorted(keys, key=lambda key: (words.place(key[0]), str(key))):
        values = [_exact(one, name, split, target) for one in rows]
        notes = [one for one in (split, target if facts.several else None) if one]
        sign = words.UNITS.get(unit, unit)
        sign = f", {sign}" if sign else ""
        where = f" ({', '.join(map(words.plain, notes))})" if notes else ""
        lines.append(
            Reading(
                words.title(name) + where + sign,
                tuple(words.number(v.value, v.unit) if v else words.MISSING for v in values),
                tuple(bool(v and v.invalid) for v in values),
            )
        )
    return tuple(display_name(one) for one in rows), tuple(lines)


def _reasons(row: Row) -> str:
    return "; ".join(verdict.reason for verdict in row.verdicts if verdict.state != "pass")


def _exact(row: Row, metric: str, split: str | None, target: str | None) -> Measurement | None:
    return next(
        (
            one
            for one in row.measurements
            if (one.metric, one.split, one.target, one.slice) == (metric, split, target, None)
        ),
        None,
    )


def _change(value: float | None, old: float | None, unit: str, *, up: bool) -> Change:
    if value is None:
        return Change()
    text = words.number(value, unit)
    if old is None:
        return Change(text)
    change = words.signed(value - old, unit)
    if not change.strip("+−0.,"):
        return Change(text, "±0")
    return Change(text, change, (value > old) == up)


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _slices(facts: Facts, row: Row, teacher: Row, prefix: str, heading: str) -> Slices | None:
    pairs: list[tuple[str, Measurement, Measurement]] = []
    shown, split = "", ""
    parts = [one for one in row.measurements if one.slice and one.slice.startswith(prefix)]
    given = dict.fromkeys([facts.primary or "", *(one.metric for one in parts)])
    for split, shown in ((s, m) for s in facts.splits for m in given):
        names = dict.fromkeys(str(one.slice) for one in parts if one.metric == shown)
        both = (
            (
                name,
                scored(teacher, shown, facts, split, name),
                find(row.measurements, shown, target=facts.target, split=split, slice=name),
            )
            for name in names
        )
        # A slow target answers a sample only, which is not what the teacher was scored on.
        pairs = [
            (name, a, b)
            for name, a, b in both
            if a is not None and b is not None and "of" not in b.conditions
        ]
        if pairs:
            break
    if not pairs:
        return None
    largest = max((abs(b.value - a.value) for _, a, b in pairs), default=0.0)
    largest = largest if math.isfinite(largest) and largest > 0 else 1.0
    lines = tuple(
        SliceLine(
            name=words.plain(name.removeprefix(prefix)),
            samples=f"{b.samples:,}",
            teacher=words.number(a.value, a.unit),
            shown=words.number(b.value, b.unit),
            difference=words.signed(b.value - a.value, b.unit),
            share=(b.value - a.value) / largest if math.isfinite(b.value - a.value) else 0.0,
            invalid=b.invalid or a.invalid,
            count=b.samples,
            value=b.value,
            change=b.value - a.value,
        )
        for name, a, b in sorted(pairs, key=lambda pair: pair[0])
    )
    return Slices(heading, words.title(shown), split, lines)


def figures(facts: Facts, row: Row | None) -> tuple[str, ...]:
    """Say accuracy and latency of `row` with their intervals, one sentence each."""
    if row is None:
        return ()
    out = []
    value, lost = (
        scored(row, facts.primary or "", facts, facts.split),
        drop(row, facts, facts.split),
    )
    if value is not None and not value.invalid:
        text = f"{words.title(value.metric)} {words.number(value.value, value.unit)}"
        text += f" on {value.split}" if value.split else ""
        if facts.several and value.target:
            text += f", as {words.plain(value.target)} answered"
        if lost is not None and not lost.invalid:
            change = words.signed(-lost.value, lost.unit)
            turned = lost.interval and (-lost.interval[1], -lost.interval[0])
            between = words.span(turned, lost.unit, sign=True)
            text += f", {change} against the teacher" + (f" ({between})" if between else "")
        out.append(text)
    time = find(row.measurements, "latency_p50", target=facts.target)
    if time is not None and not time.invalid:
        between = words.span(time.interval, time.unit)
        text = f"p50 {words.measured(time)}" + (f" ({between})" if between else "")
        threads = time.conditions.get("threads")
        text += f" on {words.plain(time.target)}" if time.target else ""
        text += f", {threads} thread{'s' * (threads != 1)}" if isinstance(threads, int) else ""
        out.append(text)
    return tuple(out)


def budget_lines(result: RunResult, row: Row | None) -> tuple[tuple[str, str, str], ...]:
    """Say each limit with the state and reason that `row` got: (limit, state, reason)."""
    verdicts = {verdict.limit: verdict for verdict in row.verdicts} if row else {}
    out = []
    for limit in result.budget:
        verdict = verdicts.get(limit.key)
        reason = "" if verdict is None or verdict.state == "pass" else words.plain(verdict.reason)
        out.append((words.limit_words(limit), verdict.state if verdict else "undecided", reason))
    return tuple(out)
