"""What stands under the table: stages, slices, losers, further readings; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgecompress.all_metrics import is_failure, metric
from edgecompress.metrics import ANSWERS
from edgecompress.report import words
from edgecompress.report.facts import Facts, display_name, scored, state
from edgecompress.report.table import Cell, Column, Table, filled, table_of
from edgecompress.results import Row, RunResult
from edgecompress.values import Json, Measurement, find


@dataclass(frozen=True, slots=True)
class SliceLine:
    """One file or label: what was measured of the teacher and of the candidate shown.

    `share` is the difference as a share of the largest one in the table, −1 to 1, for its bar;
    `lost` the loss with its interval, where that was measured.
    """

    name: str
    before: Measurement
    after: Measurement
    share: float
    lost: Measurement | None = None

    @property
    def change(self) -> float:
        """The difference."""
        return self.after.value - self.before.value

    @property
    def cells(self) -> tuple[Cell, Cell, Cell, Cell]:
        """Examples, teacher, candidate, and the difference."""
        unit, why = self.after.unit, self.after.invalid or self.before.invalid
        return (
            Cell(f"{self.after.samples:,}", tone="quiet"),
            Cell(words.number(self.before.value, unit)),
            Cell(words.number(self.after.value, unit), invalid=bool(why), hover=why or ""),
            Cell(words.signed(self.change, unit), words.turned(self.lost)[1] if self.lost else ""),
        )


@dataclass(frozen=True, slots=True)
class Slices:
    """A table of slices: ``Data file`` or ``Label``, with its metric and split."""

    heading: str
    metric: str
    split: str
    lines: tuple[SliceLine, ...]


def subject(facts: Facts) -> Row | None:
    """Give the candidate that details are shown of: the winner, else the nearest miss."""
    return facts.winner or facts.nearest


def journey(row: Row) -> Table | None:
    """Lay out what each stage changed; what an entry lacks, or has of a wrong kind, is missing."""
    lines, metrics = [], []
    before: Json = {}
    for entry in row.stages:
        if not isinstance(entry, Mapping):
            continue
        now = _entry(entry)
        metrics += [now["metric"]] if now["metric"] else []
        scale, seconds = metric(now["metric"]), now["seconds"]
        comparable = now["metric"] == before.get("metric", now["metric"])
        old = before.get("value") if comparable else None
        cells = (
            _change(now["size"], before.get("size"), "bytes", up=False),
            _change(now["value"], old, scale.unit, up=scale.higher_is_better),
            _change(now["latency"], before.get("latency"), "ms", up=False),
            Cell(f"{words.significant(seconds)} s" if seconds else words.MISSING, tone="quiet"),
        )
        lines.append((str(entry.get("stage") or words.MISSING), cells))
        before |= {key: one for key, one in now.items() if one not in (None, "")}
    columns = (
        Column("size", "Size", "MB"),
        Column("accuracy", words.title(next(iter(metrics), "accuracy")), "validation"),
        Column("latency", "p50", "ms"),
        Column("took", "Took"),
    )
    caption = f"Stages of {display_name(row)}"
    table = table_of(caption, "After", columns, lines, style="sticky fit")
    return filled(table, least=3) if lines else None


def _entry(entry: Mapping[str, object]) -> Json:
    """Read one entry of `Row.stages`."""
    scored = next((name for name in entry if metric(name).needs == ANSWERS), "")
    return {
        "metric": scored,
        "value": _finite(entry.get(scored)),
        "size": _finite(entry.get("size")),
        "latency": _finite(entry.get("latency_p50")),
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
    return tuple((row, str(row.error)) for row in facts.rows if row.error and row.tried)


def left_out(facts: Facts) -> tuple[tuple[Row, str], ...]:
    """Give every row whose chain was not run to its end, with the reason."""
    return tuple((row, str(row.error)) for row in facts.rows if not row.tried)


def readings(facts: Facts, row: Row | None) -> Table:
    """Lay out every whole-data metric of the references and `row`."""
    rows = [*facts.references, *([row] if row else [])]
    keys = dict.fromkeys(
        (one.metric, one.split, one.target, one.unit)
        for each in rows
        for one in each.measurements
        if one.slice is None and not is_failure(one)
    )
    lines = []
    for name, split, target, unit in sorted(keys, key=lambda key: (words.place(key[0]), str(key))):
        values = [find(one.measurements, name, target=target, split=split) for one in rows]
        notes = ", ".join(one for one in (split, target if facts.several else None) if one)
        sign = words.sign(unit)
        title = words.title(name) + f" ({notes})" * bool(notes) + f", {sign}" * bool(sign)
        cells = (
            Cell(words.number(one.value, one.unit), invalid=bool(one.invalid)) if one else Cell()
            for one in values
        )
        lines.append((title, [*cells]))
    columns = (Column(one.name, display_name(one)) for one in rows)
    return table_of("Every reading", "Metric", columns, lines, style="sticky")


def _reasons(row: Row) -> str:
    return "; ".join(verdict.reason for verdict in row.verdicts if verdict.state != "pass")


def _change(value: float | None, old: float | None, unit: str, *, up: bool) -> Cell:
    if value is None:
        return Cell()
    text = words.number(value, unit)
    if old is None:
        return Cell(text)
    change = words.signed(value - old, unit)
    if not change.strip("+−0.,"):
        return Cell(text, "±0")
    return Cell(text, change, tone="up" if (value > old) == up else "down")


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _slices(facts: Facts, row: Row, teacher: Row, prefix: str, heading: str) -> Slices | None:
    pairs: list[tuple[str, Measurement, Measurement]] = []
    shown, split = "", ""
    parts = [
        one
        for one in row.measurements
        if one.slice and one.slice.startswith(prefix) and not metric(one.metric).lost
    ]
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
    changes = [abs(b.value - a.value) for _, a, b in pairs if math.isfinite(b.value - a.value)]
    lost = metric(shown).difference("teacher").name
    largest = max(changes, default=0.0) or 1.0
    lines = tuple(
        SliceLine(
            words.plain(name.removeprefix(prefix)),
            a,
            b,
            (b.value - a.value) / largest if math.isfinite(b.value - a.value) else 0.0,
            find(row.measurements, lost, target=facts.target, split=split, slice=name),
        )
        for name, a, b in sorted(pairs, key=lambda pair: pair[0])
    )
    return Slices(heading, words.title(shown), split, lines)


def slice_table(slices: Slices) -> Table:
    """Lay out parts of the data, each with a bar for the difference."""
    lines = ((one.name, (*one.cells, Cell("", share=one.share))) for one in slices.lines)
    columns = (
        Column("n", "n", kind="count"),
        Column("teacher", "Teacher", slices.metric),
        Column("model", "Model", slices.metric),
        Column("change", "Change"),
        Column("bar", "", kind="bar"),
    )
    return table_of(f"By {slices.heading}", slices.heading, columns, lines, style="plain")


def budget_lines(result: RunResult, row: Row | None) -> tuple[tuple[str, str, str], ...]:
    """Say each limit with the state and reason that `row` got: (limit, state, reason)."""
    verdicts = {verdict.limit: verdict for verdict in row.verdicts} if row else {}
    out = []
    for limit in result.budget:
        verdict = verdicts.get(limit.key)
        reason = "" if verdict is None or verdict.state == "pass" else words.plain(verdict.reason)
        out.append((words.limit_words(limit), verdict.state if verdict else "undecided", reason))
    return tuple(out)
