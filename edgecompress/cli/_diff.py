"""``edgecompress bundle diff OLD NEW``: what changed from one bundle to another."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecompress.cli._output import say_json
from edgecompress.errors import DataError, EdgeCompressError, MissingExtraError
from edgecompress.words import printable

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from edgecompress.cli._diff_words import Section
    from edgecompress.comparison.differences import Differences
    from edgecompress.comparison.flips import Flips
    from edgecompress.values import Example

Place = tuple[Path, Path]
"""A bundle's directory, and what it was called: the same, or the archive it was unpacked from."""

_PATH = click.Path(path_type=Path)
TROUBLE = 2
"""Exit code of a failure under --exit-code, where 1 says that the bundles differ (as in `diff`)."""


@click.command(name="diff")
@click.argument("old", type=_PATH)
@click.argument("new", type=_PATH)
@click.option(
    "--data",
    multiple=True,
    type=_PATH,
    help="Ask both bundles the texts of this file: CoNLL, TSV, or one text a line. Repeatable.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["conll", "tsv", "text"]),
    help="What the files of --data are; else told from each file.",
)
@click.option("--text-column", default="text", show_default=True, help="Of a TSV file.")
@click.option("--label-column", default="label", show_default=True, help="Of a TSV file.")
@click.option("--recipe", type=_PATH, help="Ask both bundles the examples of this recipe's data.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Laid over --recipe.")
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    default="validation",
    show_default=True,
    help="Which split of --recipe. Who chooses between bundles by test has no test any more.",
)
@click.option("--show", default=20, show_default=True, help="How many flipped answers to list.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads to answer with.")
@click.option("--json", "as_json", is_flag=True, help="Write everything as one JSON document.")
@click.option(
    "--exit-code",
    is_flag=True,
    help="End with 1 when the cores differ, with 2 when something fails.",
)
@click.option(
    "--verify/--no-verify", default=True, help="Compare both bundles with their digests first."
)
def diff(
    old: Path,
    new: Path,
    data: tuple[Path, ...],
    form: str | None,
    text_column: str,
    label_column: str,
    recipe: Path | None,
    settings: tuple[str, ...],
    split: str,
    show: int,
    threads: int | None,
    as_json: bool,
    exit_code: bool,
    verify: bool,
) -> None:
    """Say what differs between two bundles, OLD and NEW, directories or archives.

    Compared are model and labels, recipe, code and libraries, data, stages with what they decided,
    files, and the numbers beside the bundles with their intervals. With --data or --recipe both
    answer the same texts, one at a time on this machine, and every answer that flips is counted;
    where the data has labels, also whether it got better or worse.

    The exit code is 0 whether they differ or not. With --exit-code it is 1 when the cores (all that
    deploys) differ in a byte, and 2 when something fails; measurements alone differ from day to
    day, and are no difference then.
    """
    try:
        with _folder(old) as before, _folder(new) as after:
            found = _compared((before, old), (after, new), verify)
            flips = None
            if data or recipe:
                task = _task(found)
                examples = _examples(data, form, (text_column, label_column), task)
                examples += _of_recipe(recipe, settings, split) if recipe else ()
                flips = _ask(task, (before, old), (after, new), examples, threads)
    except EdgeCompressError as error:
        if exit_code:
            error.exit_code = TROUBLE
        raise
    if as_json:
        document = {**found.to_json(), "answers": flips.to_json() if flips else None}
        say_json(json.dumps(document, indent=1, ensure_ascii=False))
    else:
        from edgecompress.cli._diff_words import answer_sections, sections

        parts = [*sections(found), *(answer_sections(flips, max(0, show)) if flips else ())]
        _print(parts)
    if exit_code and not found.same_core:
        sys.exit(1)


def _folder(bundle: Path) -> AbstractContextManager[Path]:
    """Give a bundle's directory; an archive is unpacked for the while."""
    from edgecompress.bundle.packing import opened

    return opened(bundle)


def _compared(old: Place, new: Place, verify: bool) -> Differences:
    from edgecompress.comparison.differences import compare
    from edgecompress.comparison.side import read_side

    return compare(*(read_side(folder, verify=verify, place=name) for folder, name in (old, new)))


def _task(found: Differences) -> str:
    tasks = {found.old.manifest.task, found.new.manifest.task}
    if len(tasks) > 1:
        names = " and ".join(sorted(str(one) for one in tasks))
        raise DataError(f"the bundles do different tasks ({names}); leave out --data")
    return str(next(iter(tasks)))


def _examples(
    data: Sequence[Path], form: str | None, columns: tuple[str, str], task: str
) -> tuple[Example, ...]:
    from edgecompress.comparison.flips import read_examples

    return read_examples(data, task, form, *columns)


def _of_recipe(recipe: Path, settings: Sequence[str], split: str) -> tuple[Example, ...]:
    try:
        from edgecompress.engine.recipe import load_recipe
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "pydantic") from None
    loaded = load_recipe(recipe, settings)
    if loaded.data is None:
        raise DataError("the recipe names no data; give --data FILE", file=recipe)
    return tuple(loaded.data.read(split))  # type: ignore[arg-type]  # click has checked it


def _ask(
    task: str, old: Place, new: Place, examples: Sequence[Example], threads: int | None
) -> Flips:
    """Ask one bundle after the other, so that only one model is in memory."""
    from edgecompress.comparison.flips import ask, compare_answers
    from edgecompress.runtime import load

    answers = []
    for folder, name in (old, new):
        predictor = load(folder, threads=threads, verify=False)  # verified when it was read
        with click.progressbar(examples, label=f"asking {name}", file=sys.stderr) as bar:
            answers.append(list(ask(predictor, bar)))
        del predictor
    return compare_answers(task, examples, *answers)


def _print(parts: Iterable[Section]) -> None:
    parts = [_harmless(part) for part in parts]
    if sys.stdout.isatty():
        try:
            import rich  # noqa: F401
        except ModuleNotFoundError:  # a device has the base install
            pass
        else:
            _print_rich(parts)
            return
    for text in plain(parts):
        click.echo(text.encode())


def _harmless(part: Section) -> Section:
    """Take from a bundle's own words what would steer a terminal."""
    lines = tuple(tuple(map(printable, line)) for line in part.lines)
    return replace(part, lines=lines, notes=tuple(map(printable, part.notes)))


def plain(parts: Iterable[Section]) -> Iterable[str]:
    """Lay sections out in columns of plain text."""
    first = True
    for part in parts:
        if not first:
            yield ""
        first = False
        indent = "  " if part.title else ""
        if part.title:
            yield part.title
        table = ([part.heads] if part.heads else []) + list(part.lines)
        widths = [max(map(len, column)) for column in zip(*table, strict=True)] if table else []
        for line in table:
            cells = [
                cell.rjust(width) if part.right is not None and index >= part.right else
                cell.ljust(width)
                for index, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]  # fmt: skip
            yield (indent + "  ".join(cells)).rstrip()
        yield from (indent + note for note in part.notes)


def _print_rich(parts: Iterable[Section]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for part in parts:
        if part.title:
            console.print(Text(f"\n{part.title}", style="bold"))
        columns = max((len(line) for line in (part.heads, *part.lines)), default=0)
        table = Table(box=None, show_header=bool(part.heads), header_style="dim", pad_edge=False)
        for index in range(columns):
            head = part.heads[index] if part.heads else ""
            flush = "right" if part.right is not None and index >= part.right else "left"
            table.add_column(Text(head), justify=flush)  # type: ignore[arg-type]
        for line in part.lines:
            table.add_row(*(Text(cell, style=_style(cell)) for cell in line))
        if part.lines:
            console.print(table)
        for note in part.notes:
            console.print(Text(note, style="dim"))


def _style(cell: str) -> str:
    colours = {"+": "green", "−": "red", "~": "yellow", "apart": "bold"}
    return {**colours, "right to wrong": "red", "wrong to right": "green"}.get(cell, "")
