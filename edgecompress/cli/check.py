"""``edgecompress check``: what a recipe would do, before it does it."""

from __future__ import annotations

from typing import Any

import click

from edgecompress.cli._options import SETTINGS
from edgecompress.cli._output import say


@click.command(name="check")
@click.argument("recipe")
@SETTINGS
def command(**options: Any) -> None:
    """Check RECIPE whole: keys, order of stages, data files, targets; nothing is run.

    Of a recipe with a `matrix:` every cell is checked, and the first is shown.
    """
    from edgecompress.api.recipes import check

    say(str(check(**options)))
