"""Three renderers draw the same blocks: none is dropped by the page, and any text stays text."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from edgecompress.report import blocks, svg, words
from edgecompress.report.html import render_html
from edgecompress.report.markdown import render_markdown
from edgecompress.report.table import Cell, Column, Line, Part, Table, table_of
from edgecompress.report.terminal import print_page

SAID = "what is said"


def plot() -> svg.Plot:
    axis = svg.linear([1.0, 2.0], SAID)
    return svg.Plot(axis, axis, (svg.Mark(1.0, 2.0, "#123456", ("here",)),), "a plot")


EXAMPLES: tuple[Any, ...] = (
    blocks.Paragraph(SAID),
    blocks.Remark(SAID),
    blocks.Heading(SAID),
    blocks.Items((SAID,)),
    blocks.Checks(((SAID, "pass", ""),)),
    blocks.Pairs((("it", SAID),)),
    blocks.Tiles((blocks.Tile(SAID, "1", "MB"),)),
    blocks.FactList((blocks.Fact("it", below=(blocks.Fact("below", SAID),)),)),
    blocks.Chips((SAID,), "chips"),
    table_of("a table", "it", (Column("a", "A"),), (("one", (Cell(SAID),)),)),
    blocks.Footnotes((SAID,)),
    blocks.Legend((blocks.LegendKey(SAID, "#123456"),)),
    blocks.Plots((plot(),)),
    blocks.Strips("strips", SAID, ((0.0, "1"),), ()),
    blocks.Quotes((blocks.Quote(SAID, "a file", ()),)),
    blocks.Code(SAID),
    blocks.Folded("more", (blocks.Paragraph(SAID),)),
    blocks.Columns(((blocks.Paragraph(SAID),),)),
    blocks.Only(blocks.PAGE, (blocks.Paragraph(SAID),)),
)


def page(*some: Any) -> blocks.Page:
    return blocks.Page("title", blocks.Head("head"), (), (blocks.Section("part", some),))


class Seen(HTMLParser):
    """What a browser makes of a page: the tags, and the text outside them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def some_blocks(said: str) -> tuple[Any, ...]:
    line = Line(said, (Cell(said, said),))
    table = Table("t", "it", (Column("a", said),), (Part((line,)),))
    return blocks.Paragraph(said), blocks.Pairs(((said, said),)), table


def terminal(shown: blocks.Page, width: int = 80) -> str:
    out = io.StringIO()
    print_page(shown, Console(file=out, width=width, force_terminal=False))
    return out.getvalue()


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda one: type(one).__name__)
def test_the_page_draws_every_kind_of_block(block: Any) -> None:
    assert SAID in render_html(page(block))


def test_every_kind_of_block_is_tried() -> None:
    assert {type(one) for one in EXAMPLES} == set(get_args(blocks.Block))


def test_what_one_medium_shows_alone_the_others_do_not() -> None:
    for medium in (blocks.PAGE, blocks.MARKDOWN, blocks.TERMINAL):
        shown = page(blocks.Only(medium, (blocks.Paragraph(SAID),)), blocks.Paragraph("all"))
        found = (render_html(shown), render_markdown(shown), terminal(shown))
        assert [SAID in text for text in found] == [
            medium == one for one in (blocks.PAGE, blocks.MARKDOWN, blocks.TERMINAL)
        ]


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=30), st.text(min_size=1, max_size=30))
def test_any_text_and_any_name_stay_text(text: str, name: str) -> None:
    """Also a text that holds the marks by which a name is told."""
    name = f"x{name}{words.NAME_MARKS[1]}x"
    said = f"{text}{words.NAME_MARKS[0]} {blocks.name(name)}"
    shown = page(*some_blocks(said))
    for drawn in (render_html(shown), render_markdown(shown), terminal(shown)):
        assert not set(words.NAME_MARKS) & set(drawn)
    found = Seen()
    found.feed(render_html(shown).partition("<main>")[2].partition("</main>")[0])
    plain = Seen()
    plain.feed(
        render_html(page(*some_blocks(blocks.name("x"))))
        .partition("<main>")[2]
        .partition("</main>")[0]
    )
    assert found.tags <= plain.tags | {"wbr"}
    for piece in words.plain(text).split():
        assert piece in found.text


@settings(max_examples=40, deadline=None)
@given(st.integers(30, 200), st.lists(st.text("abc+/", max_size=40), min_size=1, max_size=4))
def test_a_table_keeps_to_the_terminal(width: int, names: list[str]) -> None:
    columns = tuple(Column(str(n), "Column", "MB", spare=n % 3) for n in range(6))
    lines = ((name, [Cell("1.23", "1.20–1.30")] * 6) for name in names)
    text = terminal(page(table_of("t", "it", columns, lines)), width)
    assert max(map(len, text.splitlines())) <= width
    assert "1.2" in text
