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

from edgecompress.observation import failures
from edgecompress.report import words
from edgecompress.values import METRICS, Measurement

TOP = 10
"""Operators and layers that are shown; the others are in ``--json``."""

WANTED = {
    "latency": "latency",
    "memory": "memory",
    "energy": "energy (no meter there)",
    "instructions": "instructions (emulated targets count them)",
}
"""What a profile may hold, and what is said where a target cannot measure it."""

RANKED = ("operator", "layer")
_HEADINGS = {
    "operator": "Operators that took the time",
    "layer": "Layers that took the time",
    "kind": "Instructions by kind",
    "threads": "With other numbers of threads",
    "arena": "With the memory arena off",
    "batch": "In batches",
}
_SHORT = {
    "latency_p50": "p50",
    "latency_p90": "p90",
    "latency_p99": "p99",
    "peak_memory": "peak",
    "memory_rise": "rise",
    "instructions": "per inference",
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
    size = _size_words([each for each in found if each.target is None])
    if size:
        console.print(Text(size))
    for target in dict.fromkeys(each.target for each in found if each.target):
        console.print()
        _print_target(target, [each for each in found if each.target == target], reference, console)


def _size_words(found: Sequence[Measurement]) -> str:
    forms = {
        "size": "{}",
        "download_size": "{} as a compressed download",
        "parameters": "{} parameters",
        "compression": "{} smaller",
    }
    return ", ".join(
        forms[each.metric].format(words.measured(each)) for each in found if each.metric in forms
    )


def _print_target(
    target: str, found: Sequence[Measurement], reference: str | None, console: Console
) -> None:
    console.print(Text(f"On {words.plain(target)}", style="bold"))
    failed = failures(found)
    for each in failed:
        console.print(Padding(Text(f"failed: {words.plain(each.invalid)}", "red"), (0, 0, 0, 2)))
    shown = [each for each in found if each not in failed]
    notes: Notes = {}
    main = [each for each in shown if each.slice is None]
    if main:
        _line(_conditions(main), console)
        console.print(Padding(_main_table(main, reference, notes), (0, 0, 0, 1)))
    for kind in dict.fromkeys(_kind(each) for each in shown if each.slice is not None):
        group = [each for each in shown if each.slice is not None and _kind(each) == kind]
        _print_group(kind, group, notes, console)
    missing = _missing(shown)
    if missing and not failed:
        _line(f"not measured: {', '.join(missing)}", console)
    for reason, number in notes.items():
        text = Text(f"{words.superscript((number,))} invalid: {words.plain(reason)}", "yellow")
        console.print(Padding(text, (0, 0, 0, 2)))


def _line(text: str, console: Console) -> None:
    if text:
        console.print(Padding(Text(text, style="dim"), (0, 0, 0, 2)))


def _conditions(found: Sequence[Measurement]) -> str:
    """Say how the times were taken."""
    timed = next((each for each in found if each.metric == "latency_p50"), found[0]).conditions
    parts = []
    if "threads" in timed:
        parts.append(f"{timed['threads']} thread{'s' if timed['threads'] != 1 else ''}")
    if timed.get("affinity"):
        parts.append(f"on cores {', '.join(map(str, timed['affinity']))}")
    if "inputs" in timed:
        origin = {"signature": "made from the signature", "examples": "from the data"}
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
            name = f"Faster than {reference or each.conditions.get('reference', 'the reference')}"
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


def _print_group(kind: str, found: Sequence[Measurement], notes: Notes, console: Console) -> None:
    """Print a table with a row for each slice and a column for each metric."""
    metrics = list(dict.fromkeys(each.metric for each in found))[:4]
    rows: dict[str, dict[str, Measurement]] = {}
    for each in found:
        rows.setdefault(str(each.slice), {})[each.metric] = each
    names = list(rows)
    if kind in RANKED:
        names.sort(key=lambda name: -_rank(rows[name].get(metrics[0])))
    calls = any("calls" in each.conditions for each in found)
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 1))
    table.add_column("", max_width=34, overflow="fold")
    for metric in metrics:
        name = _SHORT.get(metric, words.title(metric).lower())
        table.add_column(name, justify="right", no_wrap=True)
    if calls:
        table.add_column("calls", justify="right", no_wrap=True)
    for name in names[:TOP] if kind in RANKED else names:
        row = rows[name]
        cells = [_value(row[metric], notes) if metric in row else "" for metric in metrics]
        if calls:
            number = next(iter(row.values())).conditions.get("calls", "")
            cells.append(words.significant(number) if isinstance(number, float) else str(number))
        label = name.partition(":")[2] or name
        table.add_row(Text(words.plain(label)), *(Text(cell) for cell in cells))
    _line(_HEADINGS.get(kind, kind), console)
    console.print(Padding(table, (0, 0, 0, 3)))
    if kind in RANKED and len(names) > TOP:
        _line(f"and {len(names) - TOP} more; --json gives all", console)


def _rank(found: Measurement | None) -> float:
    return found.value if found is not None and math.isfinite(found.value) else -math.inf


def _missing(found: Sequence[Measurement]) -> list[str]:
    """Name what the target gave nothing of."""
    given = {METRICS.get(each.metric) for each in found}
    return [text for capability, text in WANTED.items() if capability not in given]
