"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

SETTINGS: Decorator = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set any field of the recipe (repeatable), such as data.root=DIR or "
    "stages.distil.epochs=2.",
)
STORE: Decorator = click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    envvar="EDGECOMPRESS_STORE",
    show_envvar=True,
    help="Where results are kept between runs; the user's cache folder when left out.",
)

KEY: Decorator = click.option(
    "--key",
    type=click.Path(path_type=Path),
    help="Public key: refuse a bundle that was not signed with it, before anything of it is used.",
)
