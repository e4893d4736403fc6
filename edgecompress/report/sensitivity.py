"""One page of what quantizing each layer costs: a plot, the culprits and the whole table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from edgecompress.report import svg, words
from edgecompress.report.html import environment
from edgecompress.report.strips import Dot, Strip, Strips, over
from edgecompress.values import Json

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
    "both": "weight and input",
    "weight": "weight alone",
    "activation": "input alone",
    "int8": "embedding table, 8 bits",
    "int4": "embedding table, 4 bits",
    "convolution": "convolution’s weight, 8 bits",
}
SMALLEST = 1e-12
"""An error of 0 has no place on a logarithmic axis."""


def render_sensitivity(document: Json) -> str:
    """Draw what ``sensitivity.json`` holds as one self-contained HTML page.

    Parameters
    ----------
    document : dict
        As `edgecompress sensitivity` writes it.
    """
    items, errors = document.get("items", []), document.get("tensors", [])
    used = {_what(item) for item in items}
    page = environment().get_template("sensitivity.html.j2")
    return page.render(
        document=document,
        items=[
            {**item, "said": NAMES[_what(item)]}
            for item in sorted(items, key=lambda item: -item["cost"]["error"])
        ],
        tensors=errors,
        legend=[(NAMES[key], colour) for key, colour in COLOURS.items() if key in used],
        drawn=_costs(items, document.get("culprits", [])) if items else None,
        ratios=_ratios(errors) if errors else "",
        number=_number,
        metric=words.title(str(document.get("metric") or "Metric")),
    )


def _number(value: float | None, digits: str = ".2e") -> str:
    return "–" if value is None else format(value, digits)


def _what(item: Mapping[str, Any]) -> str:
    """Say what of a part was rounded; a convolution is no table, though it is measured as one."""
    return "convolution" if item.get("kind") == "convolution" else str(item["what"])


def short(name: str) -> str:
    """Shorten a node's name for an axis: its last four parts."""
    parts = [part for part in name.split("/") if part]
    if len(parts) > 1 and parts[-1] in ("MatMul", "Gemm", "Gather", "Attention"):
        parts = parts[:-1]
    return "/".join(parts[-4:])


def _costs(items: Sequence[Mapping[str, Any]], culprits: Sequence[str]) -> Strips:
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
    return over(axis, rows)


def _ratios(errors: Sequence[Mapping[str, Any]]) -> Markup:
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
    return svg.draw(
        svg.linear([mark.x for mark in marks], "Tensors in the graph’s order"),
        svg.linear([mark.y for mark in marks], "Signal to noise, dB"),
        marks,
        lines=[svg.Line(tuple((mark.x, mark.y) for mark in marks), COLOURS["both"])],
        name="Signal to noise of each tensor; the same figures are in the table below",
    )
