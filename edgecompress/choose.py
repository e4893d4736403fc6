"""Budgets, dominance and the winner: pure functions on rows.

An invalid or missing measurement makes a limit *undecided*, never passed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from edgecompress.all_metrics import metric
from edgecompress.metrics import ANSWERS
from edgecompress.results import FLOOR, Limit, Row, Verdict
from edgecompress.values import Measurement, find

VALIDATION = "validation"


def judge(row: Row, limit: Limit, teacher: Row | None) -> Verdict:
    """Judge one limit on validation; without a target it must be kept on every one.

    One that is of slices (`Limit.each`) must be kept on every slice of its kind: the worst decides.

    Parameters
    ----------
    row : Row
        The candidate.
    limit : Limit
        One line of the budget.
    teacher : Row or None
        The teacher in PyTorch, for drops and ratios.
    """
    verdicts = [
        _judged(found, limit, row, teacher)
        for found in row.measurements
        if found.metric == limit.metric
        and (found.slice is None if limit.each is None else _is_slice(found, limit.each))
        and found.split in (None, VALIDATION)
        and limit.target in (None, found.target)
    ]
    kind = metric(limit.metric)
    verdicts += [
        Verdict(limit.key, "undecided", f"{limit.metric}@{found.target}: {_without(found)}")
        for found in row.measurements
        if kind.needs
        and found.metric == kind.observer
        and limit.target in (None, found.target)
        and found.split in (None, VALIDATION)
    ]
    if not verdicts:
        return Verdict(limit.key, "undecided", f"{limit.key} was not measured")
    order = ("pass", "undecided", "fail")
    worst = max(verdicts, key=lambda verdict: (order.index(verdict.state), verdict.miss))
    if limit.each and worst.state == "pass":
        return replace(worst, reason=f"{limit.name} of every {limit.each} is within its limit")
    return worst


def _is_slice(found: Measurement, kind: str) -> bool:
    return found.slice is not None and found.slice.startswith(f"{kind}:")


def _without(failed: Measurement) -> str:
    """Give why a target failed without its name, with which the reason mostly begins."""
    return str(failed.invalid).removeprefix(f"{failed.target}: ")


def _judged(found: Measurement, limit: Limit, row: Row, teacher: Row | None) -> Verdict:
    """Judge one measurement by a limit."""
    name = f"{limit.metric}@{found.target}" if found.target else limit.metric
    name += f" of {found.slice.partition(':')[2]}" if found.slice else ""
    if found.invalid:
        return Verdict(limit.key, "undecided", f"{name} is invalid: {found.invalid}")
    bounds = []
    if limit.max is not None:
        bounds.append(("at most", found.value, limit.max, found.value <= limit.max))
    if limit.min is not None:
        bounds.append(("at least", found.value, limit.min, found.value >= limit.min))
    relative = (limit.max_drop, limit.max_ratio, limit.min_ratio)
    if any(bound is not None for bound in relative):
        kind = metric(limit.metric)
        lost = kind.difference("teacher").name
        part = found.slice
        measured = find(row.measurements, lost, target=found.target, split=VALIDATION, slice=part)
        where = None if kind.needs == ANSWERS else found.target
        base = (
            find(teacher.measurements, limit.metric, target=where, split=VALIDATION, slice=part)
            if teacher
            else None
        )
        if base is None or base.invalid:
            return Verdict(limit.key, "undecided", f"the teacher's {name} is not known")
        if part is not None and measured is None and "of" in found.conditions:
            why = f"{name} is of a sample, which the teacher was not asked by itself"
            return Verdict(limit.key, "undecided", why)
        # Paired with the teacher's answers to the same examples, where only a sample was asked.
        drop = measured.value if measured else kind.worse_by(found.value, base.value)
        ratio = found.value / base.value if base.value else float("inf")
        if limit.max_drop is not None:
            bounds.append(("a drop of at most", drop, limit.max_drop, drop <= limit.max_drop))
        if limit.max_ratio is not None:
            bounds.append(("a ratio of at most", ratio, limit.max_ratio, ratio <= limit.max_ratio))
        if limit.min_ratio is not None:
            bounds.append(("a ratio of at least", ratio, limit.min_ratio, ratio >= limit.min_ratio))
    for words, value, bound, passed in bounds:
        if not passed:
            miss = abs(value - bound) / abs(bound) if bound else abs(value)
            mine, allowed = show(value, found, words), show(bound, found, words)
            text = f"{name}: {mine}, allowed {words} {allowed}"
            return Verdict(limit.key, "fail", text, miss)
    return Verdict(limit.key, "pass", f"{name} is within its limit")


def show(value: float, measurement: Measurement, words: str = "") -> str:
    """Write a value for people: points for fractions, MB for bytes, ms for times."""
    if "ratio" in words:
        return f"{value:.3g}×"
    if measurement.unit == "fraction":
        return f"{value * 100:.2f} points"
    if measurement.unit == "bytes":
        return f"{value / 1e6:{'.2f' if value >= 1e5 else '.3g'}} MB"
    if measurement.unit == "ms":
        return f"{value:.3g} ms"
    return f"{value:.3g}{'×' if measurement.unit == 'x' else ''}"


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """Join the verdicts of all limits: one fail fails, else one undecided leaves it open."""
    for state in ("fail", "undecided"):
        hits = [verdict for verdict in verdicts if verdict.state == state]
        if hits:
            reason = "; ".join(verdict.reason for verdict in hits)
            return Verdict("budget", hits[0].state, reason, max(hit.miss for hit in hits))
    return Verdict("budget", "pass", "every limit is kept" if verdicts else "no budget was set")


def objective(row: Row, minimize: str) -> float | None:
    """Give the value to minimize: lower is better; None when it is missing or invalid."""
    name, _, target = minimize.partition("@")
    found = find(row.measurements, name, target=target or None, split=VALIDATION)
    if found is None or found.invalid:
        return None
    return -found.value if metric(name).higher_is_better else found.value


def pareto(rows: Sequence[Row], metrics: Sequence[str]) -> set[str]:
    """Names of the rows that no other row beats on every one of `metrics` (validation).

    A row that misses one of the metrics is not on the front.
    """
    points: dict[str, list[float]] = {}
    for row in rows:
        values = [objective(row, metric) for metric in metrics]
        known = [value for value in values if value is not None]
        if len(known) == len(values) and not row.error:
            points[row.name] = known

    def dominated(name: str) -> bool:
        mine = points[name]
        return any(
            other != mine and all(a <= b for a, b in zip(other, mine, strict=True))
            for key, other in points.items()
            if key != name
        )

    return {name for name in points if not dominated(name)}


def beats_floor(row: Row, primary: str | None, floor: str | None) -> Verdict | None:
    """Judge whether a row has learned anything: whether it beats the floor on validation.

    The rule: the lower end of the 95 % interval of its lead, from a paired bootstrap over the
    examples of validation, lies above 0. A lead that chance alone can give is none, and a model
    that answers as the floor does has a lead of exactly 0. Of several targets those count that
    answered most examples, and of these the worst: a board that was asked a small sample decides
    nothing.

    Parameters
    ----------
    row : Row
    primary : str or None
        The task's main metric.
    floor : str or None
        Name of the floor's row.

    Returns
    -------
    Verdict or None
        Undecided, with the figures; None where it beats the floor or that was not measured.
    """
    leads = [
        found
        for found in row.measurements
        if primary
        and found.metric == metric(primary).difference("floor").name
        and (found.slice, found.split) == (None, VALIDATION)
        and found.interval is not None
        and not found.invalid
    ]
    most = max((found.samples for found in leads), default=0)
    lows = [(found.interval[0], found) for found in leads if found.interval]
    low, worst = min(
        (pair for pair in lows if pair[1].samples == most),
        key=lambda pair: pair[0],
        default=(math.inf, None),
    )
    if worst is None or worst.interval is None or low > 0:
        return None
    who = "the teacher" if row.name == "teacher" else row.name
    points = worst.unit == "fraction"
    lead, least, most_sure = (
        f"{value * 100:+.2f}" if points else f"{value:+.3g}"
        for value in (worst.value, *worst.interval)
    )
    sure = "" if worst.value <= 0 else " for certain"
    text = (
        f"{who} does not beat «{floor}»{sure}: {lead} {'points' if points else worst.unit} on "
        f"validation ({least} to {most_sure}, {worst.samples:,} examples)"
    )
    return Verdict(FLOOR, "undecided", text.replace("-", "−"))


REMEDY = (
    "so that nothing measured against it means anything: fine-tune it (`teacher.finetune`), or "
    "name a model that was trained for this task and these labels"
)
"""What to do about a teacher that does not beat the floor."""


def choose(
    rows: Sequence[Row],
    budget: Sequence[Limit],
    minimize: str,
    primary: str | None,
    floor: str | None = None,
) -> tuple[tuple[Row, ...], str | None, str | None, Verdict]:
    """Judge every candidate, find the winner and say why each other one lost.

    Parameters
    ----------
    rows : sequence of Row
        References and candidates; the reference ``teacher`` is the base of drops and ratios, or
        ``onnx-fp32`` where there is none.
    budget : sequence of Limit
    minimize : str
        Metric, perhaps ``metric@target`` (else that of the first target); ties go to the higher
        `primary`, then to the name.
    primary : str or None
        The task's main metric.
    floor : str or None
        Name of the row that every model must beat (`beats_floor`). A candidate that does not
        cannot win; where the teacher does not, no candidate can, and the verdict is undecided
        whatever the budget says.

    Returns
    -------
    rows, winner, nearest, verdict
        The rows with verdicts, Pareto flags and reasons; the winner's name or None; when nothing
        passes, the name of the candidate that misses by least, else None; the budget's verdict:
        the winner's or the nearest's.
    """
    # Where a model is ONNX from the start, nobody taught it: it is compared with itself in fp32.
    references = {row.name: row for row in rows if row.kind == "reference"}
    teacher = references.get("teacher") or references.get("onnx-fp32")
    metrics = [m for m in ("size", "latency_p50", primary) if m]
    front = pareto([row for row in rows if row.kind == "candidate"], metrics)
    untaught = beats_floor(teacher, primary, floor) if teacher else None
    if untaught:
        untaught = replace(untaught, reason=f"{untaught.reason}, {REMEDY}")
    judged: list[Row] = []
    for row in rows:
        if row.kind == "candidate" and not row.error:
            verdicts = tuple(judge(row, limit, teacher) for limit in budget)
            below = untaught or beats_floor(row, primary, floor)
            verdicts += (below,) if below else ()
            judged.append(replace(row, verdicts=verdicts, pareto=row.name in front))
        else:
            judged.append(row)
    alive = [row for row in judged if row.kind == "candidate" and not row.error]

    def order(row: Row) -> tuple[float, float, str]:
        value = objective(row, minimize)
        tie = objective(row, primary) if primary else None
        return (float("inf") if value is None else value, 0.0 if tie is None else tie, row.name)

    passing = sorted(
        (
            r
            for r in alive
            if overall(r.verdicts).state == "pass" and objective(r, minimize) is not None
        ),
        key=order,
    )
    winner = passing[0] if passing else None
    final = tuple(
        replace(row, lost=_why(row, winner, minimize))
        if row.kind == "candidate" and row is not winner
        else row
        for row in judged
    )
    if winner:
        return final, winner.name, None, overall(winner.verdicts)
    if not alive:
        unfinished = Verdict("budget", "fail", "no candidate was finished", float("inf"))
        return final, None, None, unfinished
    undecided = [row for row in alive if overall(row.verdicts).state != "fail"]
    nearest = min(undecided or alive, key=lambda row: (overall(row.verdicts).miss, order(row)))
    verdict = untaught or overall(nearest.verdicts)
    if verdict.state == "pass":
        verdict = Verdict(
            "budget", "undecided", f"{minimize}, which is minimized, was not measured"
        )
    named = replace(verdict, reason=f"nearest is {nearest.name}: {verdict.reason}")
    return final, None, nearest.name, named


def _why(row: Row, winner: Row | None, minimize: str) -> str | None:
    if row.error:
        return row.error
    verdict = overall(row.verdicts)
    if verdict.state != "pass":
        return verdict.reason
    if winner is None:
        return f"{minimize} was not measured"
    name, _, target = minimize.partition("@")
    mine = find(row.measurements, name, target=target or None, split=VALIDATION)
    best = find(winner.measurements, name, target=target or None, split=VALIDATION)
    if mine is None or best is None or mine.invalid:
        return f"{minimize} was not measured"
    if mine.value == best.value:
        return f"{minimize} is the same, and {winner.name} is better otherwise"
    return f"{minimize} is {show(mine.value, mine)}, the winner's {show(best.value, best)}"
