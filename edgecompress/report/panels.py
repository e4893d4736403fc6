"""What stands under the table: stages, slices, losers, further readings, the machine; pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgecompress.report import words
from edgecompress.report.facts import Facts, display_name, drop, nearest, scored, state
from edgecompress.values import Json, Measurement, Row, RunResult, find

CPU_FLAGS = (
    "avx",
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_tile",
    "amx_bf16",
    "f16c",
    "fma",
    "neon",
    "asimd",
    "asimddp",
    "asimdhp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
    "fphp",
)
"""The flags that decide which int8 and fp32 kernels ONNX Runtime uses."""


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


@dataclass(frozen=True, slots=True)
class SliceLine:
    """One file or label: teacher against the candidate shown.

    `share` is the difference as a share of the largest one in the table, −1 to 1, for its bar.
    """

    name: str
    samples: str
    teacher: str
    shown: str
    difference: str
    share: float
    invalid: str | None = None


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


@dataclass(frozen=True, slots=True)
class Fact:
    """A name and its value, or the facts below it."""

    name: str
    value: str = ""
    below: tuple[Fact, ...] = ()


def subject(facts: Facts) -> Row | None:
    """Give the candidate that details are shown of: the winner, else the nearest miss."""
    close = nearest(facts, 1)
    return facts.winner or (close[0] if close else None)


def stage_lines(row: Row) -> tuple[StageLine, ...]:
    """Read `row.stages`; what an entry lacks, or has of a wrong kind, is shown as missing."""
    lines = []
    before: Json = {}
    for entry in row.stages:
        if not isinstance(entry, Mapping):
            continue
        metric = str(entry.get("metric") or "")
        lines.append(
            StageLine(
                stage=words.plain(entry.get("stage") or words.MISSING),
                size=_change(entry, before, "size_bytes", "bytes", up=False),
                accuracy=_change(
                    entry,
                    before if before.get("metric", metric) == metric else {},
                    "value",
                    words.unit_of(metric),
                    up=True,
                ),
                latency=_change(entry, before, "latency_ms", "ms", up=False),
            )
        )
        before = {**before, **{key: one for key, one in entry.items() if one is not None}}
    return tuple(lines)


def stage_metric(row: Row) -> str:
    """Name the metric that `row.stages` holds, for the column's title."""
    for entry in row.stages:
        if isinstance(entry, Mapping) and entry.get("metric"):
            return words.title(str(entry["metric"]))
    return "Accuracy"


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
    """Give every candidate whose chain broke, with the reason."""
    return tuple((row, str(row.error)) for row in facts.candidates if row.error)


def readings(facts: Facts, row: Row | None) -> tuple[tuple[str, ...], tuple[Reading, ...]]:
    """Lay out every whole-data metric of the references and `row`: headings, then lines."""
    rows = [*facts.references, *([row] if row else [])]
    keys = dict.fromkeys(
        (one.metric, one.split, one.target, one.unit)
        for each in rows
        for one in each.measurements
        if one.slice is None
    )
    order = {name: index for index, name in enumerate(words.TITLES)}
    lines = []
    several = len(facts.targets) > 1
    for metric, split, target, unit in sorted(
        keys, key=lambda key: (order.get(key[0].removesuffix("_drop"), 99), str(key))
    ):
        values = [_exact(one, metric, split, target) for one in rows]
        notes = [one for one in (split, target if several else None) if one]
        sign = f", {words.UNITS.get(unit, unit)}" if unit != "count" else ""
        name = words.title(metric) + (f" ({', '.join(map(words.plain, notes))})" if notes else "")
        lines.append(
            Reading(
                name + sign,
                tuple(words.number(v.value, v.unit) if v else words.MISSING for v in values),
                tuple(bool(v and v.invalid) for v in values),
            )
        )
    return tuple(display_name(one) for one in rows), tuple(lines)


def machine(document: Json, *, depth: int = 4) -> tuple[Fact, ...]:
    """Turn free JSON into facts; CPU flags are left out (see `cpu_flags`)."""
    out = []
    for key, value in document.items():
        name = words.plain(key).replace("_", " ")
        if "flags" in str(key).lower():
            continue
        if isinstance(value, Mapping) and depth > 1:
            out.append(Fact(name, below=machine(dict(value), depth=depth - 1)))
        elif isinstance(value, list | tuple):
            out.append(Fact(name, ", ".join(words.plain(one) for one in value) or words.MISSING))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            out.append(Fact(name.removesuffix(" bytes"), _figure(str(key), float(value))))
        else:
            text = words.MISSING if value in (None, "") else words.plain(value)
            # A digest is recognized by its beginning; results.json holds it whole.
            out.append(Fact(name, re.sub(r"^([0-9a-f]{12})[0-9a-f]{28,}$", r"\1…", text)))
    return tuple(out)


def cpu_flags(environment: Json) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give the CPU flags that matter to ONNX Runtime's kernels, and all of them."""
    every = tuple(dict.fromkeys(words.plain(flag) for flag in _flags(environment)))
    return tuple(flag for flag in CPU_FLAGS if flag in every), every


def _flags(value: object) -> Iterable[str]:
    if not isinstance(value, Mapping):
        return
    for key, one in value.items():
        if "flags" in str(key).lower():
            yield from one.split() if isinstance(one, str) else map(str, one or ())
        else:
            yield from _flags(one)


def _figure(key: str, value: float) -> str:
    if key.endswith("_bytes") and value >= 1e9:
        return f"{words.significant(value / 1e9)} GB"
    if key.endswith("_bytes"):
        return words.with_unit(value, "bytes")
    return f"{value:,.0f}" if value.is_integer() else f"{value:g}"


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


def _change(
    entry: Mapping[str, object], before: Mapping[str, object], key: str, unit: str, *, up: bool
) -> Change:
    value, old = _finite(entry.get(key)), _finite(before.get(key))
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
    metric, split = "", ""
    metrics = dict.fromkeys([facts.primary or "", "f1", "accuracy", "macro_f1"])
    for split, metric in ((s, m) for s in facts.splits for m in metrics):
        names = dict.fromkeys(
            one.slice
            for one in row.measurements
            if one.slice and one.slice.startswith(prefix) and one.metric == metric
        )
        both = (
            (
                name,
                scored(teacher, metric, facts, split, name),
                find_exact(row, metric, facts, split, name),
            )
            for name in names
        )
        pairs = [(name, a, b) for name, a, b in both if a is not None and b is not None]
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
        )
        for name, a, b in sorted(pairs, key=lambda pair: pair[0])
    )
    return Slices(heading, words.title(metric), split, lines)


def find_exact(
    row: Row, metric: str, facts: Facts, split: str, slice: str | None
) -> Measurement | None:
    """Find a slice's measurement on the target shown."""
    return find(row.measurements, metric, target=facts.target, split=split, slice=slice)


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
