"""One page of what quantizing each layer costs: a plot, the culprits and the whole table."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from edgecompress.report.html import environment
from edgecompress.report.plot import LAYOUT, script
from edgecompress.values import Json

COLOURS = {
    "both": ("weight and input", "#3d82d6"),
    "weight": ("weight alone", "#12a37f"),
    "activation": ("input alone", "#d07a1e"),
    "int8": ("table, 8 bits", "#9a63c9"),
    "int4": ("table, 4 bits", "#c2574a"),
}
"""What is rounded: its name and colour, legible on both themes."""
SMALLEST = 1e-12
"""An error of 0 has no place on a logarithmic axis."""


def render_sensitivity(document: Json) -> str:
    """Draw what ``sensitivity.json`` holds as one self-contained HTML page.

    Parameters
    ----------
    document : dict
        As `edgecompress sensitivity` writes it.

    Returns
    -------
    str
        The page, about 5 MB, nearly all of it plotly's script.
    """
    figures = []
    items, errors = document.get("items", []), document.get("tensors", [])
    used = {item["what"] for item in items}
    if items:
        figures.append(_costs(items, document.get("culprits", [])))
    if errors:
        figures.append(_ratios(errors))
    page = environment().get_template("sensitivity.html.j2")
    return page.render(
        document=document,
        items=sorted(items, key=lambda item: -item["cost"]["error"]),
        tensors=errors,
        names={key: name for key, (name, _) in COLOURS.items()},
        legend=[pair for key, pair in COLOURS.items() if key in used],
        figures=[Markup(one) for one in figures],  # noqa: S704 - plotly escapes; names are escaped
        script=Markup(script()) if figures else "",  # noqa: S704 - plotly's own file
        number=_number,
    )


def _number(value: float | None, digits: str = ".2e") -> str:
    return "–" if value is None else format(value, digits)


def short(name: str) -> str:
    """Shorten a node's name for an axis: its last four parts."""
    parts = [part for part in name.split("/") if part]
    if len(parts) > 1 and parts[-1] in ("MatMul", "Gemm", "Gather", "Attention"):
        parts = parts[:-1]
    return "/".join(parts[-4:])


def _costs(items: Sequence[Mapping[str, Any]], culprits: Sequence[str]) -> str:
    """Draw the error of every part, in the graph's order from above."""
    import plotly.graph_objects as go
    import plotly.io as pio

    order = list(dict.fromkeys(item["layer"] for item in items))
    ticks = [f"{short(name)} ◀" if name in culprits else short(name) for name in order]
    figure = go.Figure()
    for what, (title, colour) in COLOURS.items():
        mine = [item for item in items if item["what"] == what]
        if not mine:
            continue
        figure.add_scatter(
            x=[max(item["cost"]["error"], SMALLEST) for item in mine],
            y=[order.index(item["layer"]) for item in mine],
            mode="markers",
            name=title,
            marker={
                "color": colour,
                "size": 11 if what in ("both", "int8") else 8,
                "symbol": "circle" if what in ("both", "int8", "int4") else "circle-open",
            },
            hovertext=[
                f"<b>{html.escape(item['layer'])}</b><br>{title}<br>"
                f"{html.escape(item['tensor'])}<br>error {item['cost']['error']:.3g}"
                for item in mine
            ],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    layout = {**LAYOUT, "height": 140 + 22 * len(order)}
    figure.update_layout(
        **layout,
        xaxis={
            "type": "log",
            "title": {"text": "Output error, relative", "standoff": 10},
            "fixedrange": True,
            "zeroline": False,
            "automargin": True,
            "exponentformat": "power",
            "dtick": 1,
        },
        yaxis={
            "tickvals": list(range(len(order))),
            "ticktext": [html.escape(tick) for tick in ticks],
            "range": [len(order) - 0.4, -0.6],
            "fixedrange": True,
            "zeroline": False,
            "automargin": True,
            "tickfont": {"size": 11},
        },
    )
    return str(pio.to_json(figure))


def _ratios(errors: Sequence[Mapping[str, Any]]) -> str:
    """Draw the signal-to-noise ratio along the graph."""
    import plotly.graph_objects as go
    import plotly.io as pio

    figure = go.Figure()
    figure.add_scatter(
        x=list(range(len(errors))),
        y=[min(one["snr_db"], 100.0) for one in errors],
        mode="lines+markers",
        marker={"color": "#3d82d6", "size": 6},
        line={"color": "#3d82d6", "width": 1.5},
        hovertext=[
            f"<b>{html.escape(one['tensor'])}</b><br>{html.escape(one['op'])}"
            f"<br>{one['snr_db']:.1f} dB"
            for one in errors
        ],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    shared = {"fixedrange": True, "zeroline": False, "automargin": True}
    figure.update_layout(
        **LAYOUT,
        xaxis=shared | {"title": {"text": "Tensors in the graph’s order", "standoff": 10}},
        yaxis=shared | {"title": {"text": "Signal to noise, dB", "standoff": 10}},
    )
    return str(pio.to_json(figure))
