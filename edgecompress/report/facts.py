"""What every report needs to know of a result before it draws anything; pure.

Which row is the reference, which metric is the task's, which split and target are shown, in which
order rows stand, and the verdict in one sentence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgecompress.report import words
from edgecompress.values import Measurement, Row, RunResult, find

REFERENCE = "onnx-fp32"
"""The teacher's stock fp32 export: what every ratio is measured against."""
TUNED = "onnx-fp32-tuned"
PRIMARY = ("f1", "accuracy", "macro_f1")
STATES = {"pass": "Budget kept", "fail": "Budget missed", "undecided": "Undecided"}


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
        Where latency was measured, the recipe's first target first.
    teacher, reference, winner : Row or None
    rows : tuple of Row
        References, then the winner, then the others: passed, undecided, failed the budget, broken.
    """

    primary: str | None
    split: str | None
    splits: tuple[str, ...]
    targets: tuple[str, ...]
    teacher: Row | None
    reference: Row | None
    winner: Row | None
    rows: tuple[Row, ...]

    @property
    def target(self) -> str | None:
        """The target of the main table."""
        return self.targets[0] if self.targets else None

    @property
    def candidates(self) -> tuple[Row, ...]:
        """Rows that are candidates, in the order shown."""
        return tuple(row for row in self.rows if row.kind == "candidate")

    @property
    def references(self) -> tuple[Row, ...]:
        """Rows that are references, in the order shown."""
        return tuple(row for row in self.rows if row.kind == "reference")


@dataclass(frozen=True, slots=True)
class Headline:
    """The verdict for people: a badge, one sentence, and what stands under it."""

    state: str
    badge: str
    sentence: str
    subject: str
    detail: str


def gather(result: RunResult) -> Facts:
    """Work out what is shown of `result`."""
    everything = [one for row in result.rows for one in row.measurements]
    primary = _primary(everything)
    seen = {one.split for one in everything if one.metric == primary and one.split}
    splits = tuple(split for split in ("test", "validation") if split in seen)
    return Facts(
        primary=primary,
        split=splits[0] if splits else None,
        splits=splits,
        targets=_targets(result, everything),
        teacher=next((row for row in result.rows if is_teacher(row)), None),
        reference=next(
            (row for row in result.rows if row.kind == "reference" and row.name == REFERENCE), None
        ),
        winner=next((row for row in result.rows if row.name == result.winner), None),
        rows=_ordered(result),
    )


def is_teacher(row: Row) -> bool:
    """Whether `row` is the teacher in PyTorch."""
    return row.kind == "reference" and row.name.split(" ")[0] == "teacher"


def display_name(row: Row) -> str:
    """Name a row on screens; the teacher always says where it ran."""
    return "teacher (PyTorch)" if is_teacher(row) else words.plain(row.name)


def state(row: Row) -> str:
    """Sum up a candidate's verdicts: ``pass``, ``undecided``, ``fail``, ``error`` or empty."""
    if row.error:
        return "error"
    states = {verdict.state for verdict in row.verdicts}
    return next((one for one in ("fail", "undecided", "pass") if one in states), "")


def miss(row: Row) -> float:
    """How far a candidate lies beyond the budget, as a share of the bound it misses most."""
    return max((verdict.miss for verdict in row.verdicts), default=math.inf)


def nearest(facts: Facts, count: int = 3) -> tuple[Row, ...]:
    """Give the candidates that miss the budget by least, nearest first."""
    missed = [row for row in facts.candidates if state(row) in ("fail", "undecided")]
    return tuple(sorted(missed, key=miss)[:count])


def headline(result: RunResult, facts: Facts) -> Headline:
    """Say the verdict in one sentence with what was gained and what it cost."""
    verdict = result.verdict
    badge = STATES.get(verdict.state, words.plain(verdict.state))
    if facts.winner is not None:
        if verdict.state == "pass" and not result.budget:
            badge = "Chosen"
        return Headline(
            verdict.state,
            badge,
            _gains(facts) or "A candidate was chosen.",
            display_name(facts.winner),
            _standing(result, facts),
        )
    close = nearest(facts, 1)
    subject = display_name(close[0]) if close else ""
    if verdict.state == "undecided":
        sentence = "No candidate passes: a measurement is missing or not valid."
        advice = "The same command, run again, measures only what is missing."
        detail = f"{words.plain(verdict.reason)}. {advice}"
    elif not close:
        sentence = "No candidate was finished."
        detail = words.plain(verdict.reason)
    else:
        worst = max(close[0].verdicts, key=lambda one: one.miss)
        by = f" by {worst.miss:.0%}" if 0.005 <= worst.miss < math.inf else ""
        sentence = (
            f"No candidate keeps the budget; the nearest misses {limit_name(worst.limit)}{by}."
        )
        detail = words.plain(verdict.reason)
    return Headline(verdict.state, badge, sentence, subject, detail)


def limit_name(key: str) -> str:
    """Name a limit's key, ``latency_p50@local``, for a sentence."""
    metric, _, target = words.plain(key).partition("@")
    return f"{words.label(metric)} on {target}" if target else words.label(metric)


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


def drop(row: Row, facts: Facts, split: str | None) -> Measurement | None:
    """Give the measured loss of the primary metric against the teacher."""
    if facts.primary is None:
        return None
    return scored(row, f"{facts.primary}_drop", facts, split)


def scored(
    row: Row, metric: str, facts: Facts, split: str | None, slice: str | None = None
) -> Measurement | None:
    """Find what depends on data; a reference may have been scored on another target."""
    exact = find(row.measurements, metric, target=facts.target, split=split, slice=slice)
    if exact is None and row.kind == "reference":
        return find(row.measurements, metric, split=split, slice=slice)
    return exact


def _primary(measurements: list[Measurement]) -> str | None:
    metrics = {one.metric for one in measurements if one.slice is None}
    with_drop = [name for name in PRIMARY if f"{name}_drop" in metrics]
    return next(iter([*with_drop, *(name for name in PRIMARY if name in metrics)]), None)


def _targets(result: RunResult, measurements: list[Measurement]) -> tuple[str, ...]:
    timed = [one.target for one in measurements if one.metric == "latency_p50" and one.target]
    asked = result.recipe.get("targets")
    first = [one for one in asked if one in timed] if isinstance(asked, list | tuple) else []
    return tuple(dict.fromkeys([*first, *timed]))


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


def _gains(facts: Facts) -> str:
    """Say what the winner gained over the reference and what it cost."""
    row = facts.winner
    if row is None:
        return ""
    gained = []
    ratio = size_ratio(row, facts.reference)
    if ratio is not None:
        gained.append(_comparison(ratio, "smaller", "larger"))
    fast = speedup(row, facts.target)
    if fast is not None and not fast.invalid:
        gained.append(_comparison(fast.value, "faster", "slower"))
    sentence = f"{' and '.join(gained)} than the stock fp32 export" if gained else ""
    lost = drop(row, facts, facts.split)
    if lost is not None and not lost.invalid and facts.primary is not None:
        word = "gained" if lost.value < 0 else "lost"
        amount = words.with_unit(abs(lost.value), lost.unit)
        cost = f"{amount} of {words.label(facts.primary)} {word}"
        sentence = f"{sentence}, with {cost}" if sentence else cost
    return f"{sentence}." if sentence else ""


def _comparison(ratio: float, more: str, less: str) -> str:
    return f"{words.times(ratio)}× {more}" if ratio >= 1 else f"{words.times(1 / ratio)}× {less}"


SUPERLATIVES = {
    "size": "smallest",
    "download_size": "smallest download",
    "latency_p50": "fastest",
    "end_to_end_p50": "fastest",
    "peak_memory": "lightest in memory",
    "f1": "most accurate",
    "accuracy": "most accurate",
    "macro_f1": "most accurate",
}


def _standing(result: RunResult, facts: Facts) -> str:
    """Say where the winner stands among the candidates."""
    passed = sum(state(row) == "pass" for row in facts.candidates)
    total = len(facts.candidates)
    if total == 1:
        return "the only candidate" + (", and it keeps the budget" if result.budget else "")
    if not result.budget:
        return f"{_best(result)} of {total} candidates; no budget was set"
    if passed <= 1:
        return f"the only one of {total} candidates that keeps the budget"
    return f"{_best(result)} of the {passed} candidates (of {total}) that keep the budget"


def _best(result: RunResult) -> str:
    metric, _, target = words.plain(result.minimize).partition("@")
    word = SUPERLATIVES.get(metric)
    if word is None:
        return f"the best {limit_name(result.minimize)}"
    return f"the {word} on {target}" if target else f"the {word}"
