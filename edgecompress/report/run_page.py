"""The page of a run: what a person reads of its result, as blocks; pure.

Built once; `html`, `markdown` and `terminal` draw it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from edgecompress.provenance import required
from edgecompress.report import blocks, details, environment, plot, strips, targets, variants, words
from edgecompress.report.answers import Flip, Flips
from edgecompress.report.blocks import (
    EVERYWHERE,
    FILES,
    MARKDOWN,
    PAGE,
    PLAIN,
    TERMINAL,
    Block,
    Heading,
    Only,
    Remark,
    Section,
    name,
)
from edgecompress.report.confusions import confusions
from edgecompress.report.facts import REFERENCE, Facts, display_name, gather, short_names
from edgecompress.report.floor import floor_and_overlaps
from edgecompress.report.headline import headline
from edgecompress.report.main_table import build
from edgecompress.report.targets_table import differing, targets_table
from edgecompress.report.tiles import tiles
from edgecompress.results import Row, RunResult
from edgecompress.tasks import Task, needed_extra, task, task_names

SHELL = """\
edgecompress predict bundle "{text}"
edgecompress serve bundle"""
PYTHON = """\
import edgecompress

predictor = edgecompress.load("bundle")
print(predictor.predict("{text}"))"""


def run_page(result: RunResult, flips: Flips | None = None) -> blocks.Page:
    """Lay out `result`.

    Parameters
    ----------
    result : RunResult
    flips : Flips, optional
        Examples whose answers changed, with their texts: for the page of the one who has the data.
    """
    facts = gather(result)
    shown, head = details.subject(facts), headline(result, facts)
    end = "" if not head.detail or head.detail.endswith(".") else "."
    subject = name(head.subject) if head.subject else ""
    limits = blocks.Checks(details.budget_lines(result, shown))
    return blocks.Page(
        f"{result.name}: {head.badge}",
        blocks.Head(
            head.sentence,
            ": ".join(filter(None, (subject, head.detail))) + end,
            head.badge,
            "error" if head.grave else head.state,
            tuple(filter(None, (result.name, result.task, _when(result)))),
        ),
        (
            Only(PAGE + TERMINAL, tiles(facts, shown)),
            *((limits,) if limits.lines else ()),
        ),
        tuple(_sections(result, facts, shown, flips)),
    )


def _sections(
    result: RunResult, facts: Facts, shown: Row | None, flips: Flips | None
) -> Iterator[Section]:
    there = targets.describe_targets(result, facts)
    chosen = "Why the others were not chosen" if facts.winner else "Why none was chosen"
    alone = Only(PAGE, (Remark("These could not be made; the others went on without them."),))
    lost = _reasons(facts, details.losers(facts))
    failed = _reasons(facts, details.failed(facts))
    left = _reasons(facts, details.left_out(facts))
    about = f"{name(display_name(shown))}" if shown else ""
    for title, anchor, media, inner in (
        ("All models", "all", EVERYWHERE, _models(result, facts)),
        ("On every target", "across", EVERYWHERE, _targets(facts, shown, there, about)),
        ("What could not be measured", "gaps", EVERYWHERE, () if there else _gaps(facts)),
        ("Beside the main configuration", "sides", FILES, _sides(facts, shown, about)),
        ("What size and speed cost", "trade", PAGE, _trade(result, facts)),
        ("How the times spread", "spread", PAGE, _spread(facts)),
        ("What each stage changed", "stages", PAGE, _journeys(facts, shown)),
        ("Where it gains and loses", "slices", PAGE, _slices(facts, shown, about)),
        ("What it takes for what", "confused", PAGE, confusions(result, shown)),
        ("Answers that changed", "flips", PAGE, _flips(flips, about) if flips and shown else ()),
        (chosen, "lost", EVERYWHERE, lost),
        ("What failed", "failed", EVERYWHERE, (alone, *failed) if failed else ()),
        ("What was left out", "left", EVERYWHERE, left),
        ("Every reading beside the references", "readings", PAGE, _readings(facts, shown)),
        ("Where and on what", "ground", PAGE, (_ground(result, facts),)),
        ("Use it", "use", PAGE, _use(result) if facts.winner else ()),
        ("To make it again", "again", FILES, _again(result)),
    ):
        yield Section(title, tuple(inner), anchor, media)


def _models(result: RunResult, facts: Facts) -> Iterator[Block]:
    said = (
        f"Ratios are against {name(REFERENCE)}, the teacher’s {facts.exported} export in ONNX "
        "Runtime; small figures are 95 % intervals."
    )
    if facts.primary and facts.split == "test":
        said += " Accuracy is in points on the test split, read once at the end; only validation "
        said += "was used to choose."
    elif facts.primary:
        said += f" Accuracy is in points on the {facts.split} split."
    if facts.target:
        said += f" Measured on {name(facts.target)}."
    yield Only(PAGE, (Remark(said),))
    if facts.several:
        yield Only(PLAIN, (Heading(f"On {name(facts.target)}"),))
    if common := short_names(facts.rows)[1]:
        yield Remark(f"Every candidate also has {', '.join(map(name, common))}.")
    yield build(result, download=f"{_file_name(result.name)}.csv")
    if told := floor_and_overlaps(result):
        yield blocks.Items(told)


def _targets(
    facts: Facts, shown: Row | None, there: tuple[targets.DescribedTarget, ...], about: str
) -> Iterator[Block]:
    first = [row for row in (facts.reference, shown) if shown and row]
    table = targets_table(facts, there, first)
    if table is None:
        return
    yield from (blocks.Paragraph(f"{about}: {text}.") for text in differing(facts, shown))
    yield table
    rest = [row for row in facts.rows if first and row not in first]
    others = targets_table(facts, there, rest) if rest else None
    if others and others.parts:
        title = f"The other models on every target ({len(others.parts)})"
        yield blocks.Folded(title, (replace(others, remarks=()),))
    yield from targets.target_blocks(there)
    if gaps := _gaps(facts):
        yield from (Heading("What a target did not give"), *gaps)


def _gaps(facts: Facts) -> tuple[Block, ...]:
    pairs = tuple(targets.gap_words(gap) for gap in targets.gaps(facts))
    return (blocks.Pairs(pairs),) if pairs else ()


def _sides(facts: Facts, shown: Row | None, about: str) -> Iterator[Block]:
    found = variants.variant_tables(facts, shown)
    if shown is None or not found:
        return
    yield Only(PAGE, (Remark(f"{about}; no limit of the budget is about these figures."),))
    for side in found:
        yield Only(PAGE, (Heading(side.caption),))
        yield Only(MARKDOWN, (Heading(f"{side.caption} of {about}"),))
        yield side
        if side.caption == variants.OPERATORS:
            yield from variants.in_floating_point(facts, shown)


def _trade(result: RunResult, facts: Facts) -> Iterator[Block]:
    drawn = plot.draw(result, facts)
    if not drawn:
        return
    split = "validation" if "validation" in facts.splits else facts.split
    said = "Numbers and letters are the rows of the table"
    if facts.primary and split:
        said += f"; accuracy is on {split}"
        said += f" as {name(facts.target)} answered" if facts.several else ""
        said += ", which chose" if split == "validation" else ""
    yield Remark(
        f"{said}. A model on the Pareto front is beaten by no other on size, latency"
        f"{' and accuracy' if facts.primary else ''} together; a cross is a reading that is not "
        "valid."
    )
    groups = plot.GROUPS.items()
    keys = [blocks.LegendKey(text, colour, look=key) for key, (text, colour, *_) in groups]
    keys += [blocks.LegendKey("budget", plot.BOUND, look="bound")] if result.budget else []
    yield from (blocks.Legend(tuple(keys)), blocks.Plots(drawn))


def _spread(facts: Facts) -> Iterator[Block]:
    if found := strips.latencies(facts):
        yield Remark(
            "All readings of every model, as they were taken; the marks are p50, p90 and p99. "
            "Inputs of different sizes take different times, so that a model may have several "
            "peaks."
        )
        yield found


def _journeys(facts: Facts, shown: Row | None) -> Iterator[Block]:
    found = {row.name: table for row in facts.candidates if (table := details.journey(row))}
    if shown and (table := found.pop(shown.name, None)):
        where = f", accuracy on the first target that answers and time on {name(facts.target)}"
        yield Remark(
            f"{name(display_name(shown))}, measured after each of its stages"
            f"{where if facts.several else ''}; small figures are the change."
        )
        yield table
    if found:
        inner = (one for row, table in found.items() for one in (Heading(name(row)), table))
        yield blocks.Folded(f"Stages of the other candidates ({len(found)})", tuple(inner))


def _slices(facts: Facts, shown: Row | None, about: str) -> Iterator[Block]:
    found = details.slices(facts, shown)
    if found:
        same = len({one.metric for one in found}) == 1
        yield Remark(
            f"{about} against the teacher, in points{f' of {found[0].metric}' if same else ''} on "
            f"the {found[0].split} split"
            f"{f', as {name(facts.target)} answered' if facts.several else ''}."
        )
        yield blocks.Columns(tuple((details.slice_table(one),) for one in found))


def _flips(flips: Flips, about: str) -> Iterator[Block]:
    yield Remark(
        f"{flips.broken + flips.mended:,} of the {flips.examples:,} {flips.split} examples are "
        f"answered right by one of teacher and {about} alone. No example of the test split is "
        "shown: whoever has read it cannot be tested by it any more."
    )
    ways = (
        ("The teacher was right, the model is wrong", flips.lost, flips.broken),
        ("The teacher was wrong, the model is right", flips.gained, flips.mended),
    )
    yield blocks.Columns(
        tuple((Heading(f"{title} ({of:,})"), *_quoted(some, of)) for title, some, of in ways)
    )


def _quoted(some: tuple[Flip, ...], of: int) -> Iterator[Block]:
    yield blocks.Quotes(tuple(map(_quote, some))) if some else blocks.Paragraph("None.")
    if of > len(some) > 0:
        yield Remark(f"{len(some)} of {of:,}, the surest mistakes first.")


def _quote(flip: Flip) -> blocks.Quote:
    def answer(who: str, said: str, right: str) -> tuple[str, str, str]:
        return who, said, "good" if said == right else "bad"

    lines = (
        (
            *((("", word, "word"),) if word else ()),
            ("right", right, ""),
            answer("teacher", teacher, right),
            answer("model", model, right),
        )
        for word, right, teacher, model in flip.differing
    )
    return blocks.Quote(flip.text, flip.source, tuple(lines))


def _reasons(facts: Facts, found: Sequence[tuple[Row, str]]) -> tuple[Block, ...]:
    names, _ = short_names(facts.rows)
    pairs = tuple((name(names[row.name]), why) for row, why in found)
    return (blocks.Pairs(pairs),) if pairs else ()


def _readings(facts: Facts, shown: Row | None) -> Iterator[Block]:
    table = details.readings(facts, shown)
    if table.lines:
        title = f"{len(table.lines)} metrics of {len(table.columns)} models"
        yield blocks.Folded(title, (table,))


def _ground(result: RunResult, facts: Facts) -> Block:
    here = {key: value for key, value in result.environment.items() if key != "targets"}
    important, flags = environment.cpu_flags(here)
    title = "This machine, which ran the recipe" if facts.several else "Machine"
    machine: list[Block] = [Heading(title), blocks.FactList(environment.host(here))]
    machine += [blocks.Chips(important, "CPU flags that matter")] if important else []
    every = blocks.Paragraph(name(" ".join(flags)))
    machine += [blocks.Folded(f"All {len(flags)} CPU flags", (every,))] if flags else []
    told = ("floor", "overlaps", "quoted")
    known = {key: one for key, one in result.data.items() if key not in told}
    data = environment.machine(known)
    beside: tuple[Block, ...] = (Heading("Data"), blocks.FactList(data))
    return blocks.Columns((tuple(machine), *((beside,) if data else ())))


def _use(result: RunResult) -> Iterator[Block]:
    kind = task(result.task) if result.task in task_names() else None
    extra = needed_extra(kind.name) if kind is not None else ""
    also = required("edgecompress", extra) if extra else ()
    *others, last = "onnxruntime", "tokenizers", "numpy", *also
    yield Remark(
        f"On any machine with {', '.join(others)} and {last}, and without torch; "
        f"{name('bundle')} is the folder that the run wrote."
    )
    asked = (kind or Task).sample
    yield from (blocks.Code(SHELL.format(text=asked)), blocks.Code(PYTHON.format(text=asked)))


def _again(result: RunResult) -> Iterator[Block]:
    import yaml

    if result.command:
        yield Only(PAGE, (blocks.Code(result.command),))
        yield Only(MARKDOWN, (blocks.Paragraph(f"Made by {name(result.command)}"),))
    plain = json.loads(json.dumps(result.recipe, default=str))
    recipe = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    yield Only(PAGE, (blocks.Folded("The recipe", (blocks.Code(recipe, wrap=False),)),))


def _when(result: RunResult) -> str:
    """Say when the run was and how long it took; empty where that is not known."""
    try:
        started = datetime.fromisoformat(result.started)
    except ValueError:
        return ""
    took = f", took {words.duration(result.seconds)}" if result.seconds > 0 else ""
    return f"{started.day} {started:%B %Y, %H:%M} UTC{took}"


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "models"
