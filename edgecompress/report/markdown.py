"""The result as Markdown, for pasting into an issue, a README or a chat."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgecompress.report import words
from edgecompress.report.across import Across, across, differing
from edgecompress.report.facts import gather
from edgecompress.report.panels import budget_lines, failed, losers, subject
from edgecompress.report.places import Place, gap_words, gaps, places
from edgecompress.report.sentence import headline
from edgecompress.report.standing import standing
from edgecompress.report.table import Cell, Column, Table, build
from edgecompress.report.variants import Side, sides
from edgecompress.values import RunResult

MARKS = {"pass": "✓", "fail": "✗", "undecided": "?"}


def render_markdown(result: RunResult) -> str:
    """Write the verdict, the table, why each other candidate lost, and the command.

    Text of the result (names, reasons) is escaped: it is shown as it is, never as markup.
    """
    facts = gather(result)
    head = headline(result, facts)
    parts = [f"**{escape(head.badge)}.** {escape(head.sentence)}"]
    if head.subject:
        detail = f": {escape(head.detail)}" if head.detail else ""
        parts.append(f"{code(head.subject)}{detail}")
    elif head.detail:
        parts.append(escape(head.detail))
    shown = subject(facts)
    limits = [
        f"- {MARKS.get(state, '?')} {escape(words_)}" + (f" — {escape(reason)}" if reason else "")
        for words_, state, reason in budget_lines(result, shown)
    ]
    if limits:
        parts.append("\n".join(limits))
    table = build(result)
    if facts.several:
        parts.append(f"On {code(str(facts.target))}:")
    parts.append(_table(table))
    if table.common:
        parts.append(f"Every candidate also has {', '.join(map(code, table.common))}.")
    parts += footnote_lines(table.footnotes)
    if said := standing(result):
        parts.append("\n".join(f"- {escape(text)}" for text in said))
    there = places(result, facts)
    if wide := across(facts, there):
        parts += ["On every target:", across_text(wide), *footnote_lines(wide.footnotes)]
        parts += [escape(text) for text in wide.remarks]
        parts += [f"{code(head.subject)}: {escape(one)}." for one in differing(facts, shown)]
        parts.append("\n".join(place_text(one) for one in there))
    missing = [f"- {escape(whose)}: {escape(why)}" for whose, why in map(gap_words, gaps(facts))]
    if missing:
        parts += ["Not measured:", "\n".join(missing)]
    for side in sides(facts, shown):
        parts += [f"{escape(side.title)} of {code(head.subject)}:", side_text(side)]
        parts += footnote_lines(side.footnotes) + ([escape(side.remark)] if side.remark else [])
        told = [f"- {code(name)}: {escape(text)}" for name, text in side.texts]
        parts += ["\n".join(told)] if told else []
    lost = [f"- {code(row.name)}: {escape(why)}" for row, why in losers(facts)]
    if lost:
        parts += ["Why the others were not chosen:", "\n".join(lost)]
    broken = [f"- {code(row.name)}: {escape(words.plain(why))}" for row, why in failed(facts)]
    if broken:
        parts += ["Failed:", "\n".join(broken)]
    if result.command:
        parts.append(f"Made by {code(result.command)}")
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Write `text` so that Markdown shows it as it is, on one line, also in a table."""
    safe = re.sub(r"([\\`*_\[\]|~])", r"\\\1", words.plain(text))
    safe = safe.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"^(\d*)([#+-]|[.)])(?=#* )", r"\1\\\2", safe)


def code(text: str) -> str:
    """Write `text` as a code span, whatever backticks and bars it holds."""
    clean = words.plain(text).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", clean)), default=0) + 1)
    pad = " " if clean.startswith("`") or clean.endswith("`") else ""
    return f"{fence}{pad}{clean}{pad}{fence}"


def footnote_lines(texts: Sequence[str]) -> list[str]:
    """Write a table's footnotes, each with its number."""
    return [f"{words.superscript((n,))} {escape(text)}" for n, text in enumerate(texts, 1)]


def _heads(columns: tuple[Column, ...]) -> list[str]:
    return [
        escape(f"{column.title}, {column.unit}" if column.unit else column.title)
        for column in columns
    ]


def across_text(wide: Across) -> str:
    """Write the table of models and targets."""
    lines = [
        "| " + " | ".join(["", "Target", *_heads(wide.columns)]) + " |",
        "|:--|:--|" + "--:|" * len(wide.columns),
    ]
    for group in wide.groups:
        name = f"**{escape(group.name)}**" if group.winner else escape(group.name)
        for line in group.lines:
            cells = [cell_text(cell) for cell in line.cells]
            lines.append("| " + " | ".join([name, escape(line.target), *cells]) + " |")
            name = ""
    return "\n".join(lines)


def side_text(side: Side) -> str:
    """Write a small table."""
    heads = [escape(f"{title}, {unit}" if unit else title) for title, unit in side.columns]
    lines = [
        "| " + " | ".join([escape(side.heading), *heads]) + " |",
        "|:--|" + "--:|" * len(heads),
    ]
    lines += [
        "| " + " | ".join([escape(name), *(cell_text(cell) for cell in cells)]) + " |"
        for name, cells in side.lines
    ]
    return "\n".join(lines)


def place_text(place: Place) -> str:
    """Describe a target in one line of a list."""
    parts = [place.title, ", ".join(place.isa), f"harness {place.harness}" if place.harness else ""]
    told = place.error or "; ".join(filter(None, parts)) or "not described"
    return f"- {code(place.name)}: {escape(told)}"


def _table(table: Table) -> str:
    heads = _heads(table.columns)
    lines = [
        "| " + " | ".join(["", *heads]) + " |",
        "|:--|:--|" + "--:|" * (len(heads) - 1),
    ]
    for line in table.lines:
        cells = [cell_text(cell) for cell in line.cells]
        name = escape(line.name)
        if line.winner:
            name, cells = f"**{name}**", [_bold(cell) for cell in cells]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def cell_text(cell: Cell) -> str:
    """Write a table's cell: struck out where it must not be trusted, its interval behind it."""
    text = escape(cell.text)
    if cell.invalid:
        text = f"~~{text}~~"
    text += words.superscript(cell.notes)
    return f"{text} ({escape(cell.detail)})" if cell.detail else text


def _bold(cell: str) -> str:
    value, bracket, rest = cell.partition(" (")
    return f"**{value}**{bracket}{rest}"
