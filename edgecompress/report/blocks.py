"""What a page is made of: small frozen values, built once from results.

`html`, `markdown` and `terminal` draw these and know nothing else. A text is given as it is, with
whatever it holds: each of the three makes it harmless for its own medium.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from edgecompress.report import words
from edgecompress.report.svg import Plot
from edgecompress.report.table import Table

Medium = Literal["page", "markdown", "terminal"]
Media = tuple[Medium, ...]
PAGE: Media = ("page",)
MARKDOWN: Media = ("markdown",)
TERMINAL: Media = ("terminal",)
FILES, PLAIN = PAGE + MARKDOWN, MARKDOWN + TERMINAL
EVERYWHERE = FILES + TERMINAL
_OPEN, _CLOSE = words.NAME_MARKS


def name(text: object) -> str:
    """Mark an identifier inside a text: set in a fixed width, and code in Markdown."""
    return f"{_OPEN}{text}{_CLOSE}"


def spans(text: str) -> Iterator[tuple[str, bool]]:
    """Take a text apart: its pieces, and whether each is a `name`."""
    for index, piece in enumerate(re.split(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}", text)):
        if piece:
            yield words.harmless(piece), index % 2 == 1


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Remark:
    """A paragraph that explains what stands beside it."""

    text: str


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading inside a section."""

    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[str, ...]
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Checks:
    """What was asked for, each with its state (``pass``, ``fail``, ``undecided``) and a reason."""

    lines: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Names, and what is said of each."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure that matters: its name, value and unit, what was gained, and details."""

    name: str
    value: str
    unit: str
    gain: str = ""
    detail: str = ""
    invalid: str = ""


@dataclass(frozen=True, slots=True)
class Tiles:
    """The figures that matter most."""

    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class Fact:
    """A name and its value, or the facts below it."""

    name: str
    value: str = ""
    below: tuple[Fact, ...] = ()


@dataclass(frozen=True, slots=True)
class FactList:
    """Facts, below one another."""

    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Chips:
    """Short words beside one another, under a label that is not shown."""

    texts: tuple[str, ...]
    label: str


@dataclass(frozen=True, slots=True)
class Footnotes:
    """Footnotes that several tables share."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LegendKey:
    """What a colour or a symbol means; `look` is how the page draws it."""

    text: str
    colour: str = ""
    symbol: str = ""
    look: str = ""


@dataclass(frozen=True, slots=True)
class Legend:
    """What colours and symbols mean; a `sticky` one stays in sight."""

    keys: tuple[LegendKey, ...]
    sticky: bool = False


@dataclass(frozen=True, slots=True)
class Plots:
    """Plots beside one another."""

    plots: tuple[Plot, ...]


@dataclass(frozen=True, slots=True)
class Dot:
    """A reading on a strip: its place in % of the axis, its colour, and what a pointer sees."""

    left: float
    colour: str
    hover: str
    filled: bool = True


@dataclass(frozen=True, slots=True)
class Strip:
    """A row: its name, dots, and the outline of a distribution (a path in 0 … 100 × 0 … 20)."""

    key: str
    name: str
    dots: tuple[Dot, ...] = ()
    outline: str = ""
    hover: str = ""
    note: str = ""
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Strips:
    """Rows over one axis, whose ticks are their place in % and their text.

    They are boxes of the page, no drawing, so that names stay readable on a phone.
    """

    label: str
    title: str
    ticks: tuple[tuple[float, str], ...]
    rows: tuple[Strip, ...]
    alarm: bool = False


@dataclass(frozen=True, slots=True)
class Quote:
    """A text of the data, where it is from, and lines of (what, which, ``good`` or ``bad``)."""

    text: str
    source: str
    lines: tuple[tuple[tuple[str, str, str], ...], ...]


@dataclass(frozen=True, slots=True)
class Quotes:
    """Texts of the data."""

    quotes: tuple[Quote, ...]


@dataclass(frozen=True, slots=True)
class Code:
    """Lines of a program, a command or a file."""

    text: str
    wrap: bool = True
    language: str = ""


@dataclass(frozen=True, slots=True)
class Folded:
    """What is shown on demand; a terminal leaves it out."""

    title: str
    blocks: tuple[Block, ...]
    open: bool = False


@dataclass(frozen=True, slots=True)
class Columns:
    """Blocks beside one another where there is room; each column may be a card."""

    columns: tuple[tuple[Block, ...], ...]
    cards: bool = False


@dataclass(frozen=True, slots=True)
class Only:
    """What some media alone show."""

    media: Media
    blocks: tuple[Block, ...]


Block = (
    Paragraph | Remark | Heading | Items | Checks | Pairs | Tiles | FactList | Chips | Table
    | Footnotes | Legend | Plots | Strips | Quotes | Code | Folded | Columns | Only
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of a page; `anchor` is its address in it."""

    title: str
    blocks: tuple[Block, ...]
    anchor: str = ""
    media: Media = EVERYWHERE


@dataclass(frozen=True, slots=True)
class Head:
    """What a page says first, and a terminal last: a sentence and what explains it.

    `badge` is a verdict in a word or two, `state` its colour; `about` says of what and when it is.
    """

    sentence: str
    lead: str = ""
    badge: str = ""
    state: str = ""
    about: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A page: `opening` belongs to its head; its first `contents` sections are listed there."""

    title: str
    head: Head
    opening: tuple[Block, ...]
    sections: tuple[Section, ...]
    contents: int = 0


def shown(blocks: tuple[Block, ...], medium: Medium) -> Iterator[Block]:
    """Give the blocks that a medium shows."""
    for block in blocks:
        if isinstance(block, Only):
            if medium in block.media:
                yield from shown(block.blocks, medium)
        else:
            yield block


def sections(page: Page, medium: Medium) -> tuple[Section, ...]:
    """Give the sections that a medium shows."""
    return tuple(one for one in page.sections if medium in one.media and one.blocks)
