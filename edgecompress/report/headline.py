"""The verdict in one sentence, as every report begins; pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgecompress.all_metrics import metric
from edgecompress.report import words
from edgecompress.report.facts import (
    Facts,
    display_name,
    drop,
    limit_name,
    size_ratio,
    sound_speedup,
    state,
    untimed,
    whole_speedup,
)
from edgecompress.report.floor import below_floor
from edgecompress.results import RunResult

STATES = {"pass": "Budget kept", "fail": "Budget missed", "undecided": "Undecided"}


@dataclass(frozen=True, slots=True)
class Headline:
    """The verdict for people: a badge, one sentence, and what stands under it.

    `grave` says that the figures themselves mean little: it is shown in red.
    """

    state: str
    badge: str
    sentence: str
    subject: str
    detail: str
    grave: bool = False


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
            _standing(result, facts) + _untried(facts) + _no_speed(facts),
        )
    close = facts.nearest
    subject = display_name(close) if close else ""
    detail = words.plain(verdict.reason).removeprefix(f"nearest is {subject}: ")
    detail += _untried(facts)
    below = below_floor(close)
    if verdict.state == "undecided" and below is not None:
        teacher = below.reason.startswith("the teacher ")
        who = "The teacher does not beat" if teacher else "What would be chosen does not beat"
        sentence = f"{who} «{words.plain(result.floor)}»: nothing was shown to be learned."
        return Headline(verdict.state, badge, sentence, subject, detail, grave=True)
    if verdict.state == "undecided":
        sentence = "No candidate passes: a measurement is missing or not valid."
        if "the same command measures" not in detail:  # a lost target's reason says it, too
            detail += ". The same command, run again, measures only what is missing."
    elif close is None:
        sentence = "No candidate was finished."
    else:
        worst = max(close.verdicts, key=lambda one: one.miss)
        by = f" by {worst.miss:.0%}" if 0.005 <= worst.miss < math.inf else ""
        name = limit_name(worst.limit)
        sentence = f"No candidate keeps the budget; the nearest misses {name}{by}."
    return Headline(verdict.state, badge, sentence, subject, detail)


def _gains(facts: Facts) -> str:
    """Say what the winner gained over the reference and what it cost."""
    row = facts.winner
    if row is None:
        return ""
    gained = []
    ratio = size_ratio(row, facts.reference)
    if ratio is not None:
        gained.append(_comparison(ratio, "smaller", "larger"))
    fast = sound_speedup(row, facts.target)
    if fast is not None:
        gained.append(_comparison(fast.value, "faster", "slower") + _whole(facts) + facts.where)
    sentence = f"{' and '.join(gained)} than the {facts.exported} fp32 export" if gained else ""
    lost = drop(row, facts, facts.split)
    if lost is not None and not lost.invalid and facts.primary is not None:
        amount = words.with_unit(abs(lost.value), lost.unit)
        name, better = words.label(facts.primary), lost.value < 0
        cost = f"{amount} of {name} {'gained' if better else 'lost'}{facts.where}"
        if words.rises(facts.primary):  # «an error rate gained» would be read as a worse one
            cost = f"{name} {amount} {'lower' if better else 'higher'}{facts.where}"
        sentence = f"{sentence}, with {cost}" if sentence else cost
    return f"{sentence}." if sentence else ""


def _whole(facts: Facts) -> str:
    """Say how much faster the winner is with what stands around it; empty where nobody knows."""
    found = whole_speedup(facts.winner, facts.target) if facts.winner else None
    return f" ({words.times(found[0].value)}× {found[1]})" if found else ""


def _comparison(ratio: float, more: str, less: str) -> str:
    return f"{words.times(ratio)}× {more}" if ratio >= 1 else f"{words.times(1 / ratio)}× {less}"


def _standing(result: RunResult, facts: Facts) -> str:
    """Say where the winner stands among the candidates."""
    passed = sum(state(row) == "pass" for row in facts.candidates)
    total = sum(row.tried for row in facts.candidates)
    if total == 1:
        return "the only candidate" + (", and it keeps the budget" if result.budget else "")
    if not result.budget:
        return f"{_best(result)} of {total} candidates; no budget was set"
    if passed <= 1:
        return f"the only one of {total} candidates that keeps the budget"
    return f"{_best(result)} of the {passed} candidates (of {total}) that keep the budget"


def _untried(facts: Facts) -> str:
    """Say how many candidates were left out, and why; empty where none was."""
    left = [row for row in facts.candidates if not row.tried]
    if not left:
        return ""
    many = "1 more was" if len(left) == 1 else f"{len(left)} more were"
    why = {words.plain(row.error) for row in left}
    return f"; {many} {why.pop() if len(why) == 1 else 'left out'}"


def _no_speed(facts: Facts) -> str:
    """Say why the sentence names no speed though it was measured; empty where it need not."""
    why = untimed(facts.winner, facts.target) if facts.winner else ""
    return f". No speed is given, as the times do not hold: {words.plain(why)}" if why else ""


def _best(result: RunResult) -> str:
    name, _, target = words.plain(result.minimize).partition("@")
    word = metric(name).best
    if not word:
        return f"the best {limit_name(result.minimize)}"
    return f"the {word} on {target}" if target else f"the {word}"
