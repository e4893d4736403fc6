"""What commands write to standard output: a stranger's words in it cannot steer a terminal.

Names, labels and versions come from bundles, recipes and boards that nobody has checked.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from edgecompress.words import printable, shortened

if TYPE_CHECKING:
    from edgecompress.api.paged import Paged
    from edgecompress.api.shown import Shown


def say(text: str = "") -> None:
    """Write lines for a person, as UTF-8 whatever the terminal says: names need it."""
    click.echo(printable(text, keep="\n").encode("utf-8", "backslashreplace"))


def say_piece(text: str) -> None:
    """Write a part of a line for a person at once."""
    click.echo(printable(text, keep="\n").encode("utf-8", "backslashreplace"), nl=False)
    sys.stdout.flush()


def say_json(text: str) -> None:
    r"""Write JSON; at a terminal, what would steer it becomes ``\u009b``, which means the same."""
    if sys.stdout.isatty():
        text = "".join(
            sign if sign == "\n" or printable(sign) == sign else _escaped(sign) for sign in text
        )
    click.echo(text.encode("utf-8", "backslashreplace"), nl=not text.endswith("\n"))


def _escaped(sign: str) -> str:
    units = sign.encode("utf-16-be", "surrogatepass")
    return "".join(
        f"\\u{int.from_bytes(units[at : at + 2], 'big'):04x}" for at in range(0, len(units), 2)
    )


def show(found: Shown | Paged) -> None:
    """Print what a function of the API gave: with rich at a terminal, in whole lines elsewhere."""
    if sys.stdout.isatty():
        try:
            from rich.console import Console
        except ModuleNotFoundError:
            pass  # a device has the base install
        else:
            Console(highlight=False).print(found)
            return
    say(str(found))


def answer(found: Any, as_json: bool) -> None:
    """Print a result as JSON or as tables."""
    if not as_json:
        show(found)
        return
    document = found.to_json()
    text = document if isinstance(document, str) else None
    say_json(text or json.dumps(document, indent=1, ensure_ascii=False))


USAGE = 2
"""Exit code of a command that was not typed as it must be."""
LONGEST_MESSAGE = 700
"""Characters of an error: what is longer quotes something absurd. Begin and end remain."""


def say_error(text: str, start: str = "edgecompress") -> None:
    """Say an error on standard error, in one line of bearable length."""
    line = printable(" ".join(text.split("\n")))
    click.echo(f"{start}: {shortened(line, LONGEST_MESSAGE)}", err=True)


def beware(text: str) -> None:
    """Warn on standard error; at a terminal in yellow, unless NO_COLOR is set (no-color.org)."""
    colour = False if os.environ.get("NO_COLOR") else None  # None: where there is a terminal
    click.secho(f"beware: {printable(text)}", fg="yellow", err=True, color=colour)


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Show what excludes each other as click shows a wrong option: with the command's usage."""
    from edgecompress.errors import ArgumentError

    try:
        yield
    except ArgumentError as error:
        raise click.UsageError(str(error)) from None
