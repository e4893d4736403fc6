"""How an error is said: one line on standard error, whatever a stranger's file put into it."""

from __future__ import annotations

import click

from edgecompress.words import printable, shortened

LONGEST_MESSAGE = 700
"""Characters of an error: what is longer quotes something absurd. Begin and end remain."""


def say_error(text: str, start: str = "edgecompress") -> None:
    """Say an error in one line; what it quotes of a stranger's file cannot steer the terminal."""
    line = printable(" ".join(text.split("\n")))
    click.echo(f"{start}: {shortened(line, LONGEST_MESSAGE)}", err=True)
