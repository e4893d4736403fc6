"""The result as Markdown, for pasting into an issue, a README or a chat."""

from __future__ import annotations

import re

from edgecompress.report import words
from edgecompress.report.facts import gather
from edgecompress.report.panels import budget_lines, failed, losers, subject
from edgecompress.report.sentence import headline
from edgecompress.report.table import Cell, Table, build
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
    for target in facts.targets or (None,):
        table = build(result, target)
        if len(facts.targets) > 1:
            parts.append(f"On {code(str(target))}:")
        parts.append(_table(table))
        if table.common:
            parts.append(f"Every candidate also has {', '.join(map(code, table.common))}.")
        parts += [
            f"{words.superscript((n,))} {escape(t)}" for n, t in enumerate(table.footnotes, 1)
        ]
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


def _table(table: Table) -> str:
    heads = [
        escape(f"{column.title}, {column.unit}" if column.unit else column.title)
        for column in table.columns
    ]
    lines = [
        "| " + " | ".join(["", *heads]) + " |",
        "|:--|:--|" + "--:|" * (len(heads) - 1),
    ]
    for line in table.lines:
        cells = [_cell(cell) for cell in line.cells]
        name = escape(line.name)
        if line.winner:
            name, cells = f"**{name}**", [_bold(cell) for cell in cells]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if cell.invalid:
        text = f"~~{text}~~"
    text += words.superscript(cell.notes)
    return f"{text} ({escape(cell.detail)})" if cell.detail else text


def _bold(cell: str) -> str:
    value, bracket, rest = cell.partition(" (")
    return f"**{value}**{bracket}{rest}"
