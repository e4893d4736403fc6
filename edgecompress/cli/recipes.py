"""``edgecompress check``, ``run``, ``stages`` and ``schema``: recipes, and what stands in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgecompress.cli import _completion
from edgecompress.cli._functions import command_of
from edgecompress.cli._output import say
from edgecompress.cli._runs import show_run

_FOLDER = click.Path(path_type=Path, file_okay=False)


@command_of("recipes.check")
def check(function: Any, **options: Any) -> None:
    """Say what a recipe would do."""
    say(str(function(**options)))


@command_of(
    "recipes.list_stages",
    changes={"name": {"argument": True, "shell_complete": _completion.stages}},
)
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
    from edgecompress.api.running import MatrixCells

    found = function(output=output, **options)
    if isinstance(found, MatrixCells):
        say(str(found))
        return 0
    return show_run(found, output)
