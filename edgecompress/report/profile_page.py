"""The page of a profile: a part for each target, readable at 80 columns; pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from edgecompress.all_metrics import is_failure, metric
from edgecompress.report import blocks, words
from edgecompress.report.blocks import Block, Heading, Remark
from edgecompress.report.table import Cell, Column, Notes, Table, table_of
from edgecompress.report.variants import KINDS, prefix_of
from edgecompress.values import Json, Measurement

TITLE = "What was measured"
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


def profile_page(
    model: str, found: Sequence[Measurement], reference: str | None = None
) -> blocks.Page:
    """Lay out what was measured of a model.

    Parameters
    ----------
    model : str
        Its name.
    found : sequence of Measurement
    reference : str, optional
        The model that it was interleaved with.
    """
    size = _size_words([each for each in found if each.target is None], reference)
    sections = [
        blocks.Section(
            f"On {target}",
            tuple(_target([each for each in found if each.target == target], reference)),
        )
        for target in dict.fromkeys(each.target for each in found if each.target)
    ]
    first = blocks.Section(model, (blocks.Paragraph(size),))
    return blocks.Page(model, blocks.Head(model), (), (first, *sections))


def _size_words(found: Sequence[Measurement], reference: str | None) -> str:
    against = reference or "the reference"
    return ", ".join(
        (metric(each.metric).phrase or "{value}").format(
            value=words.measured(each), reference=against
        )
        for each in found
    )


def _target(found: Sequence[Measurement], reference: str | None) -> Iterator[Block]:
    failed = [each for each in found if is_failure(each)]
    for each in failed:
        yield blocks.Paragraph(f"failed: {each.invalid}")
    absent = [each for each in found if each not in failed and not math.isfinite(each.value)]
    shown = [each for each in found if each not in failed and each not in absent]
    notes = Notes()
    main = [each for each in shown if each.slice is None]
    if main:
        if said := _conditions(main):
            yield Remark(said)
        yield _main_table(main, reference, notes)
    for kind in dict.fromkeys(prefix_of(each) for each in shown if each.slice is not None):
        group = [each for each in shown if each.slice is not None and prefix_of(each) == kind]
        yield from _operators(group, notes) if kind == "operator" else _group(kind, group, notes)
    missing = _missing(shown, absent)
    if missing and not failed:
        yield Remark(f"not measured: {'; '.join(missing)}")
    yield blocks.Footnotes(tuple(f"invalid: {reason}" for reason in notes.texts))


def _conditions(found: Sequence[Measurement]) -> str:
    """Say how the times were taken."""
    timed = next((each for each in found if each.metric == "latency_p50"), found[0]).conditions
    parts = []
    if "threads" in timed:
        parts.append(words.counted(timed["threads"], "thread"))
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
    lines = []
    for each in found:
        title = words.title(each.metric)
        if each.metric in ("speedup", "end_to_end_speedup"):
            against = reference or each.conditions.get("reference", "the reference")
            whole = ", the whole way" if each.metric == "end_to_end_speedup" else ""
            title = f"Speed against {against}{whole}"
        interval = Cell(words.span(each.interval, each.unit), tone="quiet")
        cells = (_cell(each, notes), interval, Cell(str(each.samples), tone="quiet"))
        lines.append((title, cells))
    columns = (Column("value", ""), Column("interval", "95 % interval", kind="words"))
    return table_of(TITLE, "", (*columns, Column("readings", "readings")), lines)


def _cell(found: Measurement | None, notes: Notes) -> Cell:
    """Write a value, with the number of the note that says why it is invalid."""
    if found is None:
        return Cell("")
    marks = (notes.number(found.invalid),) if found.invalid is not None else ()
    return Cell(words.measured(found), notes=marks)


def _group(kind: str, found: Sequence[Measurement], notes: Notes) -> Iterator[Block]:
    """Lay out a row for each slice and a column for each metric."""
    names = list(dict.fromkeys(each.metric for each in found))
    rows: dict[str, dict[str, Measurement]] = {}
    for each in found:
        rows.setdefault(str(each.slice).partition(":")[2], {})[each.metric] = each
    yield Heading(_HEADINGS.get(kind, kind))
    yield table_of(
        TITLE,
        "",
        (Column(each, words.short(each)) for each in names),
        (
            (
                KINDS.get(slice_, slice_) if kind == "kind" else slice_,
                tuple(_cell(row.get(each), notes) for each in names),
            )
            for slice_, row in rows.items()
        ),
    )


def _operators(found: Sequence[Measurement], notes: Notes) -> Iterator[Block]:
    """Say which operators and which of their nodes took the time, and what stayed in floats."""
    found = sorted(found, key=lambda each: -each.value)
    timed = Column("time", "time"), Column("share", "share")
    yield Heading("Operators that took the time, per inference")
    yield table_of(
        TITLE,
        "",
        (*timed, Column("calls", "calls")),
        (
            (
                str(each.slice).partition(":")[2],
                (
                    _cell(each, notes),
                    _share(each.conditions),
                    Cell(f"{each.conditions.get('calls', 0):g}"),
                ),
            )
            for each in found[:TOP]
        ),
    )
    if len(found) > TOP:
        yield Remark(f"and {len(found) - TOP} more; --json gives all")
    layers = [layer for each in found for layer in each.conditions.get("layers", ())]
    layers.sort(key=lambda layer: -layer["ms"])
    if layers:
        yield Heading("Layers that took the time, per inference")
        yield table_of(
            TITLE,
            "",
            timed,
            (
                (_end(layer["name"]), (Cell(words.with_unit(layer["ms"], "ms")), _share(layer)))
                for layer in layers[:TOP]
            ),
        )
    floats = [pair for each in found for pair in each.conditions.get("float", {}).items()]
    if floats:
        yield Remark(f"{len(floats)} nodes of the quantized graph stayed in floating point:")
    yield from (Remark(f"  {node}: {why}") for node, why in floats[:FLOATS])
    if len(floats) > FLOATS:
        yield Remark(f"  and {len(floats) - FLOATS} more; --json gives all")


def _end(name: str) -> str:
    """Give the end of a long name: the beginnings of nodes' names are all alike."""
    return name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"


def _share(conditions: Json) -> Cell:
    return Cell(f"{conditions.get('share', 0.0) * 100:.1f} %")


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
