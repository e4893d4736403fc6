"""What ``edgecompress profile`` prints: a part for each target, readable at 80 columns."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from edgecompress.all_metrics import metric
from edgecompress.engine.observation import failures
from edgecompress.report import words
from edgecompress.report.variants import KINDS
from edgecompress.values import Json, Measurement

TOP = 10
"""Operators and layers that are shown; the others are in ``--json``."""

FLOATS = 3
"""Nodes that stayed in floating point that are named."""

LONGEST = 48
"""Characters of a node's name that are shown."""

WANTED = ("latency", "memory", "energy", "instructions")
"""What a profile may hold; a target that cannot measure it is said to."""

_HEADINGS = {
    "part": "Part by part",
    "kind": "Instructions by kind",
    "threads": "With other numbers of threads",
    "arena": "With the memory arena off",
    "batch": "In batches",
}
Notes = dict[str, int]


def to_json_lines(model: str, found: Iterable[Measurement]) -> str:
    """Write measurements as JSON lines; a number that could not be had is null."""
    lines = []
    for measurement in found:
        entry = {"model": model, **asdict(measurement)}
        if not math.isfinite(measurement.value):
            entry["value"] = None
        lines.append(json.dumps(entry, ensure_ascii=False))
    return "".join(f"{line}\n" for line in lines)


def print_profile(
    model: str,
    found: Sequence[Measurement],
    reference: str | None = None,
    console: Console | None = None,
) -> None:
    """Print what was measured of a model.

    Parameters
    ----------
    model : str
        Its name.
    found : sequence of Measurement
    reference : str, optional
        The model that it was interleaved with.
    console : Console, optional
        Standard output when left out.
    """
    console = console or Console(highlight=False, soft_wrap=False)
    console.print(Text(words.plain(model), style="bold"))
    size = _size_words([each for each in found if each.target is None], reference)
    if size:
        console.print(Text(size))
    for target in dict.fromkeys(each.target for each in found if each.target):
        console.print()
        _print_target(target, [each for each in found if each.target == target], reference, console)


def _size_words(found: Sequence[Measurement], reference: str | None) -> str:
    against = reference or "the reference"
    return ", ".join(
        (metric(each.metric).phrase or "{value}").format(
            value=words.measured(each), reference=against
        )
        for each in found
    )


def _print_target(
    target: str, found: Sequence[Measurement], reference: str | None, console: Console
) -> None:
    console.print(Text(f"On {words.plain(target)}", style="bold"))
    failed = failures(found)
    for each in failed:
        console.print(
            Padding(Text(f"failed: {words.plain(each.invalid)}", "red"), (0, 0, 0, 2), expand=False)
        )
    absent = [each for each in found if each not in failed and not math.isfinite(each.value)]
    shown = [each for each in found if each not in failed and each not in absent]
    notes: Notes = {}
    main = [each for each in shown if each.slice is None]
    if main:
        _line(_conditions(main), console)
        console.print(Padding(_main_table(main, reference, notes), (0, 0, 0, 1), expand=False))
    for kind in dict.fromkeys(_kind(each) for each in shown if each.slice is not None):
        group = [each for each in shown if each.slice is not None and _kind(each) == kind]
        if kind == "operator":
            _print_operators(group, notes, console)
        else:
            _print_group(kind, group, notes, console)
    missing = _missing(shown, absent)
    if len(shown) > len(main):
        console.print()
    if missing and not failed:
        _line(f"not measured: {'; '.join(missing)}", console)
    for reason, number in notes.items():
        text = Text(f"{words.superscript((number,))} invalid: {words.plain(reason)}", "yellow")
        console.print(Padding(text, (0, 0, 0, 2), expand=False))


def _line(text: str, console: Console) -> None:
    if text:
        console.print(Padding(Text(text, style="dim"), (0, 0, 0, 2), expand=False))


def _conditions(found: Sequence[Measurement]) -> str:
    """Say how the times were taken."""
    timed = next((each for each in found if each.metric == "latency_p50"), found[0]).conditions
    parts = []
    if "threads" in timed:
        parts.append(f"{timed['threads']} thread{'s' if timed['threads'] != 1 else ''}")
    if timed.get("affinity"):
        parts.append(f"on cores {', '.join(map(str, timed['affinity']))}")
    if "inputs" in timed:
        origin = {
            "signature": "made from the signature",
            "examples": "from the data",
            "file": "from a file",
        }
        source = str(timed.get("source"))
        many = "s" if timed["inputs"] != 1 else ""
        parts.append(f"{timed['inputs']} input{many} {origin.get(source, f'from the {source}')}")
    if "duration_ms" in timed:
        parts.append(f"{timed['duration_ms'] / 1e3:.1f} s")
    if timed.get("governor"):
        parts.append(f"governor {timed['governor']}")
    return " · ".join(parts)


def _main_table(found: Sequence[Measurement], reference: str | None, notes: Notes) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 1))
    table.add_column("", max_width=34)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("95 % interval", no_wrap=True)
    table.add_column("readings", justify="right", no_wrap=True)
    for each in found:
        name = words.title(each.metric)
        if each.metric == "speedup":
            name = f"Speed against {reference or each.conditions.get('reference', 'the reference')}"
        table.add_row(
            Text(words.plain(name)),
            Text(_value(each, notes)),
            Text(words.span(each.interval, each.unit), style="dim"),
            Text(str(each.samples), style="dim"),
        )
    return table


def _value(found: Measurement, notes: Notes) -> str:
    """Write a value, with the number of the note that says why it is invalid."""
    text = words.measured(found)
    if found.invalid is None:
        return text
    return text + words.superscript((notes.setdefault(found.invalid, len(notes) + 1),))


def _kind(found: Measurement) -> str:
    return str(found.slice).partition(":")[0]


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 1))
    table.add_column("", max_width=LONGEST, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _print_group(kind: str, found: Sequence[Measurement], notes: Notes, console: Console) -> None:
    """Print a table with a row for each slice and a column for each metric."""
    names = list(dict.fromkeys(each.metric for each in found))
    rows: dict[str, dict[str, Measurement]] = {}
    for each in found:
        rows.setdefault(str(each.slice).partition(":")[2], {})[each.metric] = each
    table = _table(*map(words.short, names))
    for name, row in rows.items():
        name = KINDS.get(name, name) if kind == "kind" else name
        cells = [_value(row[each], notes) if each in row else "" for each in names]
        table.add_row(Text(words.plain(name)), *(Text(cell) for cell in cells))
    console.print()
    _line(_HEADINGS.get(kind, kind), console)
    console.print(Padding(table, (0, 0, 0, 3), expand=False))


def _print_operators(found: Sequence[Measurement], notes: Notes, console: Console) -> None:
    """Print which operators and which of their nodes took the time, and what stayed in floats."""
    found = sorted(found, key=lambda each: -each.value)
    table = _table("time", "share", "calls")
    for each in found[:TOP]:
        calls = f"{each.conditions.get('calls', 0):g}"
        table.add_row(
            Text(words.plain(str(each.slice).partition(":")[2])),
            *(Text(cell) for cell in (_value(each, notes), _share(each.conditions), calls)),
        )
    console.print()
    _line("Operators that took the time, per inference", console)
    console.print(Padding(table, (0, 0, 0, 3), expand=False))
    if len(found) > TOP:
        _line(f"and {len(found) - TOP} more; --json gives all", console)
    layers = [layer for each in found for layer in each.conditions.get("layers", ())]
    layers.sort(key=lambda layer: -layer["ms"])
    table = _table("time", "share")
    for layer in layers[:TOP]:
        time = words.with_unit(layer["ms"], "ms")
        table.add_row(Text(_end(words.plain(layer["name"]))), Text(time), Text(_share(layer)))
    if layers:
        console.print()
        _line("Layers that took the time, per inference", console)
        console.print(Padding(table, (0, 0, 0, 3), expand=False))
    floats = [pair for each in found for pair in each.conditions.get("float", {}).items()]
    if floats:
        _line(f"{len(floats)} nodes of the quantized graph stayed in floating point:", console)
    for name, why in floats[:FLOATS]:
        _line(f"  {words.plain(name)}: {words.plain(why)}", console)
    if len(floats) > FLOATS:
        _line(f"  and {len(floats) - FLOATS} more; --json gives all", console)


def _end(name: str) -> str:
    """Give the end of a long name: the beginnings of nodes' names are all alike."""
    return name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"


def _share(conditions: Json) -> str:
    return f"{conditions.get('share', 0.0) * 100:.1f} %"


def _missing(found: Sequence[Measurement], absent: Sequence[Measurement]) -> list[str]:
    """Name what the target gave nothing of, with the reason where there is one."""
    given = {metric(each.metric).needs for each in (*found, *absent)}
    emulated = "instructions" in given and "latency" not in given
    why = {
        "latency": " (emulated time means nothing)" if emulated else "",
        "memory": " (nor does emulated memory)" if emulated else "",
        "energy": "" if emulated else " (no meter)",
        "instructions": " (emulated targets count them)",
    }
    reasons = {
        f"{words.label(each.metric)} ({words.plain(each.invalid)})": None
        for each in absent
        if each.invalid
    }
    return [*reasons, *(f"{name}{why[name]}" for name in WANTED if name not in given)]
