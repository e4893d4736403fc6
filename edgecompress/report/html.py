"""One self-contained HTML page of a result: no network, readable on a phone, light and dark.

The page forbids itself every connection (Content-Security-Policy), so nothing can be loaded even
by mistake; its one small script sorts tables and shows what a pointer is at, and nothing is lost
without it.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from edgecompress.report import (
    across,
    csvfile,
    ground,
    panels,
    places,
    plot,
    strips,
    variants,
    words,
)
from edgecompress.report.answers import Flips
from edgecompress.report.confusions import confusions
from edgecompress.report.facts import (
    Facts,
    display_name,
    drop,
    gather,
    scored,
    size_ratio,
    speedup,
)
from edgecompress.report.sentence import headline
from edgecompress.report.standing import standing
from edgecompress.report.table import build
from edgecompress.values import Measurement, Row, RunResult, find

MARKS = {"pass": "✓", "fail": "✗", "undecided": "?", "error": "✗", "chosen": "✓"}
SHELL = """\
edgecompress predict bundle "{text}"
edgecompress serve bundle"""
PYTHON = """\
import edgecompress

predictor = edgecompress.load("bundle")
print(predictor.predict("{text}"))"""
TEXT = "Nairobi ni mji mkuu wa Kenya"
"""Any text does; this one suits what we ship."""


def render_html(result: RunResult, flips: Flips | None = None) -> str:
    """Draw `result` as one HTML page.

    Whatever text the result holds (labels, names, reasons) is escaped.

    Parameters
    ----------
    result : RunResult
    flips : Flips, optional
        Examples whose answers changed, with their texts: for the page of the one who has the data.
    """
    facts = gather(result)
    table = build(result)
    shown = panels.subject(facts)
    names, lines = panels.readings(facts, shown)
    here = {key: value for key, value in result.environment.items() if key != "targets"}
    important, flags = ground.cpu_flags(here)
    there = places.places(result, facts)
    first = [row for row in (facts.reference, shown) if shown and row]
    rest = [row for row in facts.rows if first and row not in first and not row.error]
    page = environment().get_template("report.html.j2")
    return page.render(
        result=result,
        facts=facts,
        head=headline(result, facts),
        marks=MARKS,
        when=_when(result),
        csv=csvfile.data_link(csvfile.table_csv(table)),
        csv_name=f"{_file_name(result.name)}.csv",
        latencies=strips.latencies(facts, table),
        confusion=confusions(result, shown),
        flips=flips,
        use={"shell": SHELL.format(text=TEXT), "python": PYTHON.format(text=TEXT)},
        tiles=_tiles(facts, shown),
        limits=panels.budget_lines(result, shown),
        table=table,
        across=across.across(facts, there, first),
        across_rest=across.across(facts, there, rest) if rest else None,
        differing=across.differing(facts, shown),
        places=there,
        gaps=[places.gap_words(gap) for gap in places.gaps(facts)],
        sides=variants.sides(facts, shown),
        plots=plot.draw(result, facts, table),
        plot_split="validation" if "validation" in facts.splits else facts.split,
        groups=plot.GROUPS,
        subject=shown,
        subject_name=display_name(shown) if shown else "",
        journeys=_journeys(facts, shown),
        slices=panels.slices(facts, shown),
        keys={line.row.name: line.key for line in table.lines},
        losers=panels.losers(facts),
        failed=panels.failed(facts),
        reading_names=names,
        readings=lines,
        machine=ground.host(here),
        standing=standing(result),
        data=ground.machine(
            {key: one for key, one in result.data.items() if key not in ("floor", "overlaps")}
        ),
        important_flags=important,
        flags=flags,
        recipe=yaml.safe_dump(_plain_types(result.recipe), sort_keys=False, allow_unicode=True),
    )


def environment() -> Environment:
    """Make the environment of every page: text is escaped, an unknown name is an error."""
    made = Environment(
        loader=PackageLoader("edgecompress.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["breakable"] = _breakable
    made.filters["plain"] = words.plain
    made.globals["words_plain"] = words.plain
    return made


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


def _breakable(text: object) -> Markup:
    """Escape a long name and let it break after its separators and before capitals."""
    breaks = r"(?<!^)([+._/,=-])|(?=\()|(?<=[a-z]{3})(?=[A-Z])"
    safe = re.sub(breaks, r"\1<wbr>", str(escape(words.plain(text))))
    return Markup(safe)  # noqa: S704 - escaped on the line above


def _journeys(facts: Facts, shown: Row | None) -> list[dict[str, Any]]:
    """Give what each stage changed, of the candidate shown first and then of every other."""
    rows = [*([shown] if shown else []), *(row for row in facts.candidates if row is not shown)]
    return [
        {
            "name": display_name(row),
            "metric": panels.stage_metric(row),
            "lines": lines,
        }
        for row in rows
        if (lines := panels.stage_lines(row))
    ]


def _tiles(facts: Facts, row: Row | None) -> list[dict[str, Any]]:
    """Give the four figures that matter, each with what it is compared to."""
    if row is None:
        return []
    tiles = [_size_tile(facts, row), _latency_tile(facts, row), _accuracy_tile(facts, row)]
    memory = _of(row, "peak_memory", facts.target)
    base = _of(facts.reference, "peak_memory", facts.target)
    if memory is not None:
        sound = base is not None and not base.invalid and not memory.invalid and memory.value > 0
        gain = f"{words.times(base.value / memory.value)}× less" if base and sound else ""
        against = f"stock export {words.measured(base)}" if sound else ""
        against = " · ".join(filter(None, [against, facts.where.strip()]))
        tiles.append(_tile("Peak memory", memory, gain, against))
    return [tile for tile in tiles if tile]


def _tile(name: str, found: Measurement, gain: str, detail: str) -> dict[str, Any]:
    return {
        "name": name,
        "value": words.number(found.value, found.unit),
        "unit": words.UNITS.get(found.unit, found.unit),
        "gain": gain,
        "detail": detail,
        "invalid": words.plain(found.invalid) if found.invalid else "",
    }


def _of(row: Row | None, metric: str, target: str | None) -> Measurement | None:
    return find(row.measurements, metric, target=target) if row else None


def _size_tile(facts: Facts, row: Row) -> dict[str, Any] | None:
    found = find(row.measurements, "size")
    if found is None:
        return None
    ratio = size_ratio(row, facts.reference)
    download = find(row.measurements, "download_size")
    detail = f"{words.measured(download)} to download" if download else ""
    return _tile("Size", found, f"{words.times(ratio)}× smaller" if ratio else "", detail)


def _latency_tile(facts: Facts, row: Row) -> dict[str, Any] | None:
    found = _of(row, "latency_p50", facts.target)
    if found is None:
        return None
    fast = speedup(row, facts.target)
    gain = f"{words.times(fast.value)}× faster" if fast and not fast.invalid else ""
    where = [words.plain(found.target)] if found.target else []
    threads = found.conditions.get("threads")
    if isinstance(threads, int):
        where.append(f"{threads} thread" + ("s" if threads != 1 else ""))
    between = words.span(found.interval, found.unit)
    detail = " · ".join([*([f"{between} ms"] if between else []), ", ".join(where)])
    return _tile("Latency p50", found, gain, detail)


def _accuracy_tile(facts: Facts, row: Row) -> dict[str, Any] | None:
    split = facts.split
    found = scored(row, facts.primary or "", facts, split)
    if found is None and len(facts.splits) > 1:
        split = facts.splits[1]
        found = scored(row, facts.primary or "", facts, split)
    if found is None:
        return None
    lost = drop(row, facts, split)
    gain = between = ""
    if lost is not None and not lost.invalid:
        gain = f"{words.signed(-lost.value, lost.unit)} vs teacher"
        turned = lost.interval and (-lost.interval[1], -lost.interval[0])
        between = words.span(turned, lost.unit, sign=True)
    name = f"{words.title(found.metric)} on {split}" if split else words.title(found.metric)
    answered = f"answered by {words.plain(found.target)}" if facts.several and found.target else ""
    return _tile(name, found, gain, " · ".join(filter(None, [between, answered])))


def _plain_types(value: Any) -> Any:
    """Turn tuples into lists and anything unknown into text, for YAML."""
    if isinstance(value, dict):
        return {str(key): _plain_types(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_types(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
