"""What a model cannot do or is not known to do, in words that follow from measurements; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgecompress.all_metrics import metrics
from edgecompress.report import words
from edgecompress.report.details import SliceLine, Slices, budget_lines
from edgecompress.report.facts import HERE, Facts, drop, quantized, trained
from edgecompress.report.languages import Languages
from edgecompress.report.table import sampled
from edgecompress.report.targets_table import differing
from edgecompress.results import Row, RunResult
from edgecompress.tasks import task, task_names
from edgecompress.values import find
from edgecompress.words import listed

FEW = 100
"""Examples below which a slice's figure is called uncertain: the 95 % interval of a share of 100
examples reaches 1.96 · 0.5 / √100, about 10 points, to either side."""


def limits(
    result: RunResult,
    facts: Facts,
    row: Row,
    labels: Sequence[str],
    tables: Sequence[Slices],
    spoken: Languages,
    longest: int | None = None,
) -> tuple[str, ...]:
    """Say every limit of `row` that the data shows, the gravest kinds first.

    Parameters
    ----------
    result : RunResult
    facts : Facts
    row : Row
        The model that the card is of.
    labels : sequence of str
        Its classes.
    tables : sequence of Slices
        Its parts of the data against the teacher's.
    spoken : Languages
    longest : int, optional
        Pieces that it reads at once.
    """
    found: list[str] = [*_scope(result, spoken, labels)]
    found += [
        f"The budget is not kept for certain: {what} ({state}{': ' if why else ''}{why})."
        for what, state, why in budget_lines(result, row)
        if state != "pass"
    ]
    found += _loss(facts, row)
    for table in tables:
        found += _uneven(result, facts, table)
    found += _places(facts, row)
    if trained(row.steps):
        seed = result.recipe.get("seed")
        with_seed = f", with seed {seed}" if seed is not None else ""
        found.append(
            f"One model was trained{with_seed}; its interval covers the choice of test examples, "
            "not the chance in training."
        )
    for name, kind in metrics().items():
        one = find(row.measurements, name, target=facts.target, split=facts.split)
        if kind.caution and one is not None and not one.invalid:
            found.append(kind.caution.format(value=words.measured(one), split=one.split))
    found += _windows(result.task, longest)
    return tuple(found)


def few(table: Slices) -> tuple[SliceLine, ...]:
    """Give the lines of a table that rest on fewer than `FEW` examples."""
    return tuple(line for line in table.lines if line.after.samples < FEW)


def _scope(result: RunResult, spoken: Languages, labels: Sequence[str]) -> Iterator[str]:
    if spoken.known:
        tongues = listed([one.name for one in spoken.known], 30)
        yield f"It was measured on {tongues}; of any other language nothing is known."
    yield "It was measured on texts like those of its data; of other kinds nothing is known."
    if result.task in task_names() and (scope := task(str(result.task)).scope(labels)):
        yield scope


def _loss(facts: Facts, row: Row) -> Iterator[str]:
    lost = drop(row, facts, facts.split)
    name = words.label(facts.primary or "")
    if lost is None or lost.invalid or lost.interval is None:
        return
    low, high = lost.interval
    between = f"{words.number(low, lost.unit)} to {words.number(high, lost.unit)} points"
    if low > 0:
        yield f"It is worse than the teacher on {lost.split}, beyond chance: {between} of {name}."
    elif high > 0:
        yield (
            f"Whether it loses anything against the teacher is not settled: the interval on "
            f"{lost.split} reaches from {words.signed(-high, lost.unit)} to "
            f"{words.signed(-low, lost.unit)} points of {name}."
        )
    finished = [one for one in facts.candidates if not one.error]
    if len(finished) > 1 and facts.split == "test":
        yield (
            f"It was chosen among {len(finished)} candidates by its validation figures, which "
            "therefore flatter it; those on test do not."
        )


def _uneven(result: RunResult, facts: Facts, table: Slices) -> Iterator[str]:
    """Say where it is weakest and where it loses most; parts with few examples come apart."""
    small = few(table)
    sound = [line for line in table.lines if line not in small and not line.cells[2].invalid]
    if len(sound) > 1:
        worst, best = (pick(sound, key=lambda line: line.after.value) for pick in (min, max))
        yield (
            f"By {table.heading.lower()} it is weakest on {worst.name} ({table.metric} "
            f"{worst.cells[2].text}) and best on {best.name} ({best.cells[2].text})."
        )
        most = min(sound, key=lambda line: line.change)
        if most.change < 0:
            yield (
                f"Against the teacher it loses most on {most.name}: {most.cells[3].text} points "
                f"of {table.metric}, from {most.cells[0].text} examples"
                f"{_beyond(result, facts, most)}."
            )
    if small:
        names = [f"{line.name} ({line.cells[0].text})" for line in small]
        yield (
            f"Fewer than {FEW} examples stand behind the figures of {listed(names)}: chance alone "
            "can move them by 10 points and more."
        )


def _beyond(result: RunResult, facts: Facts, line: SliceLine) -> str:
    allowed = [
        one.max_drop
        for one in result.budget
        if one.metric == facts.primary and one.max_drop is not None and one.each is None
    ]
    if not allowed or -line.change <= min(allowed):
        return ""
    bound = words.with_unit(min(allowed), "fraction")
    return f", where the budget allows {bound} over all of them"


def _places(facts: Facts, row: Row) -> Iterator[str]:
    for text in differing(facts, row):
        yield f"Not every processor answers alike: {text}."
    asked = {one.target for one in row.measurements if one.metric == facts.primary}
    if asked and asked <= {HERE} and quantized(row.steps):
        yield (
            "Its answers were asked of one machine only; 8-bit arithmetic differs from processor "
            "to processor, so that it may answer otherwise elsewhere."
        )
    for target in facts.targets:
        found = find(row.measurements, facts.primary or "", target=target, split=facts.split)
        if found is not None and sampled(found):
            yield f"On {words.plain(target)} it was {sampled(found)}."
    timed = {
        words.plain(one.target)
        for one in row.measurements
        if one.metric == "latency_p50" and one.slice is None and not one.invalid
    }
    ratios = any(one.metric == "speedup" and not one.invalid for one in row.measurements)
    if timed:
        where = " and ".join(sorted(timed))
        yield f"Times and memory hold for {where} as described above, and for no other machine."
    elif ratios:
        yield "No time on its own can be trusted here, only its ratio to that of the fp32 export."
    else:
        yield "No time that can be trusted was measured anywhere."


def _windows(name: str | None, longest: int | None) -> Iterator[str]:
    joined = task(name).windows if name in task_names() else ""
    if longest is None or not joined:
        return
    yield (
        f"It reads {longest:,} pieces of its tokenizer at once. A longer text is read in several "
        f"windows, {joined}; nothing is cut off."
    )
