"""A page as Markdown, for pasting into an issue, a README or a chat.

Text of the page (names, reasons) is escaped: it is shown as it is, never as markup.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from edgecompress.report import blocks, words
from edgecompress.report.blocks import Block, Fact, Page
from edgecompress.report.table import Cell, Line, Table

MARKS = {"pass": "✓", "fail": "✗", "undecided": "?"}


def render_markdown(page: Page, *, titled: bool = False) -> str:
    """Write the head, its opening and every section; `titled`: the title above a verdict, too."""
    head = page.head
    title = [f"# {escape(page.title)}"] if titled else []
    verdict = [*title, f"**{escape(head.badge)}.** {escape(head.sentence)}"]
    parts = verdict if head.badge else [f"# {escape(head.sentence)}"]
    parts += [*([_text(head.lead)] if head.lead else []), *_blocks(page.opening)]
    for section in blocks.sections(page, "markdown"):
        parts += [f"## {escape(section.title)}", *_blocks(section.blocks)]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Write `text` so that Markdown shows it as it is, on one line, also in a table."""
    return _start(_inline(words.plain(text)))


def code(text: str) -> str:
    """Write `text` as a code span, whatever backticks and bars it holds."""
    clean = words.plain(text).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", clean)), default=0) + 1)
    pad = " " if clean.startswith("`") or clean.endswith("`") else ""
    return f"{fence}{pad}{clean}{pad}{fence}"


def _blocks(some: tuple[Block, ...]) -> Iterator[str]:
    for block in blocks.shown(some, "markdown"):
        match block:
            case blocks.Paragraph(text) | blocks.Remark(text):
                yield _text(text)
            case blocks.Heading(text):
                yield f"{_text(text)}:"
            case blocks.Items(items, ordered):
                marks = (f"{number}." if ordered else "-" for number in itertools.count(1))
                yield "\n".join(f"{next(marks)} {_text(one)}" for one in items)
            case blocks.Pairs(pairs):
                yield "\n".join(f"- {_text(name)}: {_inline(said)}" for name, said in pairs)
            case blocks.Checks(lines):
                yield "\n".join(
                    f"- {MARKS.get(state, '?')} {escape(text)}" + f" — {escape(why)}" * bool(why)
                    for text, state, why in lines
                )
            case Table():
                yield from _table(block)
            case blocks.Footnotes(texts):
                yield from _footnotes(texts)
            case blocks.FactList(facts):
                yield "\n".join(_facts(facts))
            case blocks.Code(text, _, language):
                yield "\n".join([f"```{language}", *map(words.harmless, text.splitlines()), "```"])
            case blocks.Folded(title, inner):
                yield from (f"{_text(title)}:", *_blocks(inner))
            case blocks.Columns(columns):
                for column in columns:
                    yield from _blocks(column)
            case _:  # a drawing: its figures stand in a table too
                pass


def _inline(text: str) -> str:
    safe = re.sub(r"([\\`*_\[\]|~])", r"\\\1", words.harmless(text))
    return safe.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _start(text: str) -> str:
    """Keep a line from beginning a heading, a list or a number of one."""
    return re.sub(r"^(\d*)([#+-]|[.)])(?=#* )", r"\1\\\2", text)


def _text(text: str) -> str:
    pieces = blocks.spans(text)
    return _start("".join(code(piece) if named else _inline(piece) for piece, named in pieces))


def _facts(facts: Sequence[Fact], indent: str = "") -> Iterator[str]:
    for fact in facts:
        yield f"{indent}- {escape(fact.name)}" + f": {escape(fact.value)}" * bool(fact.value)
        yield from _facts(fact.below, indent + "  ")


def _footnotes(texts: Sequence[str]) -> Iterator[str]:
    for number, text in enumerate(texts, 1):
        yield f"{words.superscript((number,))} {escape(text)}"


def _table(table: Table) -> Iterator[str]:
    columns = [n for n, column in enumerate(table.columns) if column.kind != "bar"]
    owned = any(part.owned for part in table.parts)
    heads = [_bold(escape(table.columns[n].heading), table.columns[n].strong) for n in columns]
    sides = [":--|" if table.columns[n].left else "--:|" for n in columns]
    lines = [
        "| " + " | ".join([*[""] * owned, escape(table.heading), *heads]) + " |",
        "|:--|" + ":--|" * owned + "".join(sides),
    ]
    for part in table.parts:
        owner = [_bold(escape(part.title), part.winner)] * owned
        for line in part.lines:
            cells = [_cell(line.cells[n], line) for n in columns]
            name = _bold(_text(line.name), line.winner)
            lines.append("| " + " | ".join([*owner, name, *cells]) + " |")
            owner = [""] * owned
    yield "\n".join(lines)
    yield from _footnotes(table.footnotes)
    yield from (escape(text) for _, text in table.remarks)


def _cell(cell: Cell, line: Line) -> str:
    """Write a cell: struck out where it must not be trusted, its interval behind it."""
    text = _text(cell.text)
    if cell.invalid:
        text = f"~~{text}~~"
    text = _bold(text + words.superscript(cell.notes), line.winner)
    return f"{text} ({escape(cell.detail)})" if cell.detail else text


def _bold(text: str, bold: bool) -> str:
    return f"**{text}**" if bold and text else text
