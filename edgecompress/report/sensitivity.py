"""One page of what quantizing each layer costs: a plot, the culprits and the whole table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgecompress.report import blocks, svg, words
from edgecompress.report.blocks import Dot, LegendKey, Strip, Strips, name
from edgecompress.report.strips import over
from edgecompress.report.table import Cell, Column, Line, Table, table_of
from edgecompress.values import Json

Items = Sequence[Mapping[str, Any]]
COLOURS = {
    "both": "#3d82d6",
    "weight": "#12a37f",
    "activation": "#d07a1e",
    "int8": "#9a63c9",
    "int4": "#c2574a",
    "convolution": "#2f8f9d",
}
"""By what is rounded; legible on both themes."""
NAMES = {
    "both": "both weight and input",
    "weight": "weight alone",
    "activation": "input alone",
    "int8": "embedding table, 8 bits",
    "int4": "embedding table, 4 bits",
    "convolution": "convolution’s weight, 8 bits",
}
STYLE = "sticky cards"
EXACT_DB = 200
"""A signal-to-noise ratio from which on two tensors are the same."""
SMALLEST = 1e-12
"""An error of 0 has no place on a logarithmic axis."""


def sensitivity_page(document: Json, top: int | None = None) -> blocks.Page:
    """Lay out what ``sensitivity.json`` holds.

    Parameters
    ----------
    document : dict
        As `edgecompress sensitivity` writes it.
    top : int, optional
        How many parts the table has, the worst first, by shortened names: for a terminal. All,
        by their names in the graph, by default.
    """
    model, items, errors = document["model"], document.get("items"), document.get("tensors")
    title = f"What int8 costs {model}, layer by layer"
    named = short if top is not None else str
    sections: list[blocks.Section] = []
    if items:
        sections = _parts(document, items, top, named)
    if errors is not None:
        title = f"Where {model} and {document['other']} part"
        plots = (blocks.Plots((_ratios(errors),)),) if errors else ()
        inner = (*plots, _tensors(errors, named)) if errors else ()
        sections = [blocks.Section("Signal to noise along the graph", inner)]
    return blocks.Page(
        f"Sensitivity of {model}",
        blocks.Head(title, document["says"]),
        (blocks.Remark(document["about"]),),
        tuple(sections),
    )


def _parts(
    document: Json, items: Items, top: int | None, named: Callable[[str], str]
) -> list[blocks.Section]:
    used = {_what(item) for item in items}
    keys = (LegendKey(NAMES[key], colour) for key, colour in COLOURS.items() if key in used)
    said = (
        "The squared error of all outputs over their variance in fp32: 0 is the same, 1 as bad as "
        "their mean. ◀ marks culprits."
    )
    drawn = (
        blocks.Remark(said),
        blocks.Legend(tuple(keys)),
        _costs(items, document.get("culprits", [])),
    )
    ranked = sorted(items, key=lambda item: -item["cost"]["error"])
    left = len(ranked) - len(ranked[:top])
    more = (blocks.Remark(f"… and {left} more; --top shows them"),) if left else ()
    table = _costs_table(document, ranked[:top], named)
    return [
        blocks.Section("Output error of each part, rounded alone", drawn, media=blocks.PAGE),
        blocks.Section("All parts, the worst first", (table, *more)),
    ]


def _costs_table(document: Json, items: Items, named: Callable[[str], str]) -> Table:
    metric = words.title(str(document.get("metric") or "Metric"))
    lines = []
    for item in items:
        cost, culprit = item["cost"], " ◀" * (item["layer"] in document.get("culprits", []))
        cells = (
            Cell(NAMES[_what(item)]),
            Cell("×".join(map(str, item["shape"]))),
            _number(cost["error"]),
            _number(cost["kl"]),
            _number(cost["drop"], ".2f", 100),
            _number(item["saves_bytes"] or None, ".2f", 1e-6),
            _number(item["saves_ms"], ".3f"),
        )
        lines.append(Line(f"{name(named(item['layer']))}{culprit}", cells, hover=item["tensor"]))
    columns = (
        Column("what", "Rounded", kind="words"),
        Column("weight", "Weight", spare=1, kind="words"),
        Column("error", "Error", "relative"),
        Column("kl", "KL", "nats"),
        Column("drop", f"{metric} lost", "points"),
        Column("bytes", "Saves", "MB"),
        Column("ms", "Saves", "ms"),
    )
    return table_of("All parts", "Layer", columns, lines, style=STYLE, sortable=True)


def _tensors(errors: Items, named: Callable[[str], str]) -> Table:
    lines = [
        Line(
            name(named(one["tensor"])),
            (
                Cell(one["op"]),
                _number(one["mean_error"]),
                _number(one["largest_error"]),
                Cell("exact") if one["snr_db"] >= EXACT_DB else _number(one["snr_db"], ".1f"),
            ),
        )
        for one in errors
    ]
    columns = (
        Column("op", "Made by", kind="words"),
        Column("mean", "Mean error"),
        Column("largest", "Largest"),
        Column("snr", "Signal to noise", "dB"),
    )
    return table_of("All tensors", "Tensor", columns, lines, style=STYLE, sortable=True)


def _number(value: float | None, digits: str = ".2e", scale: float = 1.0) -> Cell:
    return Cell() if value is None else Cell(format(value * scale, digits))


def _what(item: Mapping[str, Any]) -> str:
    """Say what of a part was rounded; a convolution is no table, though it is measured as one."""
    return "convolution" if item.get("kind") == "convolution" else str(item["what"])


def short(name: str) -> str:
    """Shorten a node's name for an axis: its last four parts."""
    parts = [part for part in name.split("/") if part]
    if len(parts) > 1 and parts[-1] in ("MatMul", "Gemm", "Gather", "Attention"):
        parts = parts[:-1]
    return "/".join(parts[-4:])


def _costs(items: Items, culprits: Sequence[str]) -> Strips:
    """Draw the error of every part, in the graph's order from above."""
    errors = [max(float(item["cost"]["error"]), SMALLEST) for item in items]
    axis = svg.logarithmic(errors, "Output error, relative to the outputs’ variance", share=0.03)
    layers: dict[str, list[Dot]] = {}
    for item, error in zip(items, errors, strict=True):
        what = _what(item)
        said = (
            f"{item['layer']}: {NAMES[what]}, {item['tensor']}, error {item['cost']['error']:.3g}"
        )
        dot = Dot(
            100 * axis.share(error), COLOURS[what], words.plain(said), what in ("both", "int8")
        )
        layers.setdefault(str(item["layer"]), []).append(dot)
    rows = [
        Strip("", short(name), tuple(dots), note="◀ culprit" if name in culprits else "",
              strong=name in culprits)
        for name, dots in layers.items()
    ]  # fmt: skip
    return over(axis, rows, "Output error of each layer", alarm=True)


def _ratios(errors: Items) -> svg.Plot:
    """Draw the signal-to-noise ratio along the graph."""
    marks = [
        svg.Mark(
            float(index),
            min(float(one["snr_db"]), 100.0),
            COLOURS["both"],
            (words.plain(one["tensor"]), words.plain(one["op"]), f"{one['snr_db']:.1f} dB"),
            size=3.0,
        )
        for index, one in enumerate(errors)
    ]
    return svg.Plot(
        svg.linear([mark.x for mark in marks], "Tensors in the graph’s order"),
        svg.linear([mark.y for mark in marks], "Signal to noise, dB"),
        tuple(marks),
        "Signal to noise of each tensor; the same figures are in the table below",
        lines=(svg.Polyline(tuple((mark.x, mark.y) for mark in marks), COLOURS["both"]),),
    )
