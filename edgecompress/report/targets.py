"""What each target of a result is, what its harness costs, and what it did not give; pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgecompress.report import blocks, environment, words
from edgecompress.report.blocks import Block, Fact, name
from edgecompress.report.facts import Facts, display_name, failures
from edgecompress.results import RunResult
from edgecompress.values import Json

EMULATED = "emulated: wall time and memory mean nothing there, so they are not measured"
_SHOWN = (
    "board", "cpu", "machine", "cores", "memory_bytes", "system", "kernel", "libc", "python",
    "governor",
)  # fmt: skip
"""Keys of a description in the order shown."""
_HOSTS = ("cores", "memory_bytes", "kernel", "governor")
"""What an emulated machine shows of its host."""
_LIBRARIES = ("onnxruntime", "numpy", "tokenizers")


@dataclass(frozen=True, slots=True)
class DescribedTarget:
    """A target for people; what is not known of it is empty (of `meters`, None).

    `isa` are the features that int8 and half precision kernels are chosen by, `harness` what the
    harness itself costs there, `error` why it could not be described.
    """

    name: str
    title: str = ""
    facts: tuple[Fact, ...] = ()
    isa: tuple[str, ...] = ()
    harness: str = ""
    emulated: bool = False
    meters: tuple[str, ...] | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """What a target did not give, of which models, and why."""

    target: str
    what: tuple[str, ...]
    models: tuple[str, ...]
    reason: str


def describe_targets(result: RunResult, facts: Facts) -> tuple[DescribedTarget, ...]:
    """Describe every target; none where there is only this machine."""
    if not facts.several:
        return ()
    described = result.environment.get("targets")
    known = described if isinstance(described, Mapping) else {}
    return tuple(_describe(name, known.get(name), facts) for name in facts.targets)


def target_blocks(there: tuple[DescribedTarget, ...]) -> tuple[Block, ...]:
    """Lay out what each target is: a card on the page, else a line."""
    if not there:
        return ()
    cards = blocks.Columns(tuple(tuple(_card(place)) for place in there), cards=True)
    lines = []
    for place in there:
        harness = f"harness {place.harness}" if place.harness else ""
        text = "; ".join(filter(None, [place.title, ", ".join(place.isa), harness]))
        lines.append((name(place.name), place.error or text or "not described"))
    told = blocks.Pairs(tuple(lines))
    return blocks.Only(blocks.PAGE, (cards,)), blocks.Only(blocks.PLAIN, (told,))


def _card(place: DescribedTarget) -> Iterator[Block]:
    yield blocks.Heading(name(place.name))
    if place.title:
        yield blocks.Remark(place.title)
    if place.error:
        yield blocks.Paragraph(f"This target is not described: {place.error}")
    if place.isa:
        yield blocks.Chips(place.isa, "Features that kernels are chosen by")
    yield blocks.FactList(place.facts)
    if place.harness:
        yield blocks.Remark(f"The harness itself takes {place.harness}.")


def title(document: Json) -> str:
    """Name a machine in a few words: its board and its processor."""
    parts = [words.plain(document[key]) for key in ("board", "cpu") if document.get(key)]
    return " · ".join(part for part in parts if part != "unknown")


def description(document: Json) -> tuple[Fact, ...]:
    """Lay out a description (`edgecompress.targets.agent.describe`) as facts, all but its flags."""
    host = _HOSTS if document.get("emulated") else ()
    facts = [*environment.host({key: document.get(key) for key in _SHOWN if key not in host})]
    libraries = document.get("libraries")
    if isinstance(libraries, Mapping):
        text = ", ".join(
            f"{name} {words.plain(libraries[name])}" for name in _LIBRARIES if name in libraries
        )
        facts.append(Fact("libraries", text or "none of onnxruntime, numpy, tokenizers"))
    meters = _meters(document)
    if meters is not None and not document.get("emulated"):
        facts.append(Fact("energy meters", ", ".join(meters) or "none that can be read"))
    return tuple(facts)


def gaps(facts: Facts) -> tuple[Gap, ...]:
    """Gather what targets did not give: equal reasons together."""
    found: dict[tuple[str, str], tuple[dict[str, None], dict[str, None]]] = {}
    for row in facts.rows:
        for one in failures(row):
            target = words.plain(one.target)
            reason = words.plain(one.invalid).removeprefix(f"{target}: ")
            what, models = found.setdefault((target, reason), ({}, {}))
            what[f"{one.metric} on {one.split}" if one.split else one.metric] = None
            models[display_name(row)] = None
    return tuple(
        Gap(target, tuple(what), tuple(models), reason)
        for (target, reason), (what, models) in found.items()
    )


def gap_words(gap: Gap) -> tuple[str, str]:
    """Say a gap in words: whose it is, and why."""
    count = len(gap.models)
    models = gap.models[0] if count == 1 else f"{count} models"
    return f"{gap.target}: {', '.join(gap.what)} of {models}", gap.reason


def _describe(name: str, document: object, facts: Facts) -> DescribedTarget:
    harness = _harness(name, facts)
    if not isinstance(document, Mapping):
        document = {"error": "nothing is known of it"}
    if document.get("error"):
        emulated = name.startswith("emulated://")
        error = words.plain(document["error"]).removeprefix(f"{words.plain(name)}: ")
        return DescribedTarget(words.plain(name), harness=harness, emulated=emulated, error=error)
    known = dict(document)
    isa = known.get("isa")
    return DescribedTarget(
        words.plain(name),
        title=title(known),
        facts=description(known),
        isa=tuple(map(words.plain, isa)) if isinstance(isa, list | tuple) else (),
        harness=harness,
        emulated=bool(known.get("emulated")),
        meters=_meters(known),
    )


def _meters(document: Json) -> tuple[str, ...] | None:
    found = document.get("meters")
    return tuple(map(words.plain, found)) if isinstance(found, list | tuple) else None


def _harness(name: str, facts: Facts) -> str:
    """Say what a model that does nothing takes there: the middle one of all jobs."""
    found = [
        one.value
        for row in facts.rows
        for one in row.measurements
        if one.metric == "harness_overhead"
        and one.target == name
        and one.slice is None
        and math.isfinite(one.value)
    ]
    if not found:
        return ""
    jobs = f", median of {len(found)} jobs" if len(found) > 1 else ""
    return f"{words.significant(statistics.median(found) * 1e3)} µs per call{jobs}"
