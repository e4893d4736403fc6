"""A page as one self-contained HTML file: no network, readable on a phone, light and dark.

The page forbids itself every connection (Content-Security-Policy), so nothing can be loaded even
by mistake; its one small script sorts tables and shows what a pointer is at, and nothing is lost
without it.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from functools import cache
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from edgecompress.report import svg, words
from edgecompress.report.blocks import Block, Page, sections, shown, spans
from edgecompress.report.csvfile import table_csv

MARKS = {"pass": "✓", "fail": "✗", "undecided": "?", "error": "✗", "chosen": "✓"}
BREAKS = r"(?<!^)([+._/,=-])|(?=\()|(?<=[a-z]{3})(?=[A-Z])"
"""A long name may break after its separators and before capitals."""


def render_html(page: Page) -> str:
    """Draw `page` as one HTML file; whatever text it holds is escaped."""
    counts: dict[str, itertools.count[int]] = defaultdict(lambda: itertools.count(1))
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            sections=sections(page, "page"),
            shown=lambda blocks: shown(blocks, "page"),
            marks=MARKS,
            draw=lambda plot: Markup(svg.draw(plot)),  # noqa: S704 - it escapes its texts
            csv=lambda table: Markup(_data_link(table_csv(table))),  # noqa: S704 - percent-encoded
            number=lambda what: next(counts[what]),
            kind=_kind,
            quote=quote,
        )
    )


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("edgecompress.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"breakable": _breakable, "lines": _lines}
    return made


def _kind(block: Block) -> str:
    return type(block).__name__


def _text(value: object) -> object:
    """Escape every text that is put into the page, on one line, and set its names apart."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    named = Markup('<span class="name">{}</span>')
    pieces = (
        named.format(_broken(piece)) if is_name else escape(piece)
        for piece, is_name in spans(value)
    )
    return Markup("").join(pieces)


def _breakable(text: str) -> object:
    """Let a name break; a text with names in it breaks in these."""
    return _text(text) if words.NAME_MARKS[0] in text else _broken(text)


def _broken(text: str) -> Markup:
    safe = re.sub(BREAKS, r"\1<wbr>", str(escape(words.plain(text))))
    return Markup(safe)  # noqa: S704 - escaped on the line above


def _lines(text: str) -> Markup:
    """Escape a text of several lines."""
    return Markup("\n").join(words.harmless(line) for line in text.splitlines())


def _data_link(text: str) -> str:
    """Give the address that holds a CSV file itself; a byte order mark tells Excel of UTF-8."""
    return "data:text/csv;charset=utf-8," + quote("\ufeff" + text)
