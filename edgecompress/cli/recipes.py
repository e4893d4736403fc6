"""``edgecompress check``, ``run``, ``stages`` and ``schema``: recipes, and what stands in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgecompress.cli._functions import command_of
from edgecompress.cli._output import say

_FOLDER = click.Path(path_type=Path, file_okay=False)


@command_of("recipes.check")
def check(function: Any, **options: Any) -> None:
    """Say what a recipe would do."""
    say(str(function(**options)))


@command_of("recipes.list_stages", changes={"name": {"argument": True}})
def stages(function: Any, **options: Any) -> None:
    """List stages or fields."""
    say(str(function(**options)))


@command_of("recipes.schema")
def schema(function: Any, **options: Any) -> None:
    """Print the schema."""
    click.echo(json.dumps(function(**options), indent=1, ensure_ascii=False))


@command_of(
    "running.run",
    changes={"output": {"type": _FOLDER}, "only": {"metavar": "AXIS=VALUE"}},
)
def run(function: Any, output: Path, **options: Any) -> int:
    """Print the tables, and what to do next."""
    from rich.console import Console

    from edgecompress.api.running import MatrixCells, Run
    from edgecompress.report.terminal import print_page

    found = function(output=output, **options)
    if isinstance(found, MatrixCells):
        say(str(found))
        return 0
    console = Console(highlight=False)
    print_page(found.page(), console)
    console.print(f"\nReport   {output / found.report.name}", soft_wrap=True)
    if isinstance(found, Run) and found.winner:
        console.print(f"Bundle   {output}/bundle", soft_wrap=True)
        console.print("\nNext, without torch:", style="bold")
        text = "Nairobi ni mji mkuu wa Kenya"  # any text does; this one suits what we ship
        console.print(f'  edgecompress predict {output}/bundle "{text}"', soft_wrap=True)
        console.print(f"  edgecompress bundle verify {output}/bundle", soft_wrap=True)
    code: int = found.exit_code
    return code
