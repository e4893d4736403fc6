"""The tables of docs/results.md, from the fields of results and the declared metrics.

``python tests/results_page.py docs/results.md`` writes them anew.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from edgecompress import results, values
from edgecompress.all_metrics import metrics
from edgecompress.report.fields import DESCRIPTIONS, NULLABLE

MARKS = "<!-- {}: begin -->", "<!-- {}: end -->"


def kinds() -> dict[str, type[Any]]:
    """Give the dataclasses that a result is made of, by name, in the order of the page."""
    return {name: getattr(results, name, None) or getattr(values, name) for name in DESCRIPTIONS}


def tables() -> str:
    """Write one Markdown table per object of ``results.json``."""
    parts = []
    for name, kind in kinds().items():
        lines = [f"### {name}", "", "| field | type | meaning |", "|---|---|---|"]
        for field in dataclasses.fields(kind):
            shown = json_type(name, field.name, str(field.type)).replace("|", "\\|")
            lines.append(f"| `{field.name}` | {shown} | {DESCRIPTIONS[name][field.name]} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def json_type(kind: str, name: str, annotation: str) -> str:
    """Say a field's type as JSON has it."""
    known = {
        "Json": "object",
        "str": "string",
        "str | None": "string or null",
        "float": "number",
        "float | None": "number or null",
        "int": "integer",
        "bool": "boolean",
        "tuple[float, float] | None": "[number, number] or null",
        "tuple[str, ...]": "array of string",
        "tuple[Json, ...]": "array of object",
    }
    if (kind, name) in NULLABLE:
        return "number or null"
    if annotation in known:
        return known[annotation]
    if annotation.startswith("tuple["):
        return f"array of {annotation.removeprefix('tuple[').removesuffix(', ...]')}"
    if annotation.startswith("Literal["):
        return "string"
    return annotation


def metrics_table() -> str:
    """Write the table of all declared metrics; those that mean the same share a line."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for one in metrics().values():
        better = "higher" if one.higher_is_better else "lower"
        row = (one.unit, "yes" if one.needs else "–", better, one.meaning)
        alike.setdefault(row, []).append(f"`{one.name}`")
    lines = ["| metric | unit | target | better | meaning |", "|---|---|---|---|---|"]
    lines += [f"| {', '.join(names)} | {' | '.join(row)} |" for row, names in alike.items()]
    return "\n".join(lines)


def renew(page: str) -> str:
    """Replace the tables of docs/results.md, between their two marks each, by the present ones."""
    for name, text in (("fields", tables()), ("metrics", metrics_table())):
        begin, end = (mark.format(name) for mark in MARKS)
        head, _, rest = page.partition(begin)
        _, _, tail = rest.partition(end)
        page = f"{head}{begin}\n\n{text}\n\n{end}{tail}"
    return page


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(renew(file.read_text(encoding="utf-8")), encoding="utf-8")
