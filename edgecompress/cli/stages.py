"""``edgecompress stages``: what can stand in a recipe, and each stage's fields."""

from __future__ import annotations

import click

from edgecompress.cli._output import say


@click.command(name="stages")
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List all stages, or the fields of the stage NAME with their defaults."""
    from edgecompress.api.recipes import list_stages

    say(str(list_stages(name)))
