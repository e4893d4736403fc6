"""``edgecompress image BUNDLE``: put a bundle and its runtime into a container image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgecompress.cli._functions import command_of
from edgecompress.cli._output import say, usage_errors


@command_of(
    "images.image",
    changes={
        "wheels": {"type": click.Path(path_type=Path, exists=True, file_okay=False)},
        "context_only": {"metavar": "DIR"},
        "output": {"type": click.Path(path_type=Path, dir_okay=False), "metavar": "FILE"},
        "tell": None,
    },
)
def image(function: Any, **options: Any) -> None:
    """Name what was built."""
    with usage_errors():
        built = function(**options, tell=lambda text: click.echo(text, err=True))
    say(str(built))
