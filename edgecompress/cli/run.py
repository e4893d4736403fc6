"""``edgecompress run``: the whole way from a recipe to a deployable directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgecompress.cli._options import SETTINGS, STORE
from edgecompress.cli._output import say


@click.command(name="run")
@click.argument("recipe")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory to write: results.json, report.html, report.md, bundle/, candidates/.",
)
@SETTINGS
@click.option(
    "--deterministic",
    is_flag=True,
    help="Train with one thread (--set threads=1), so that the bytes are the same on machines with "
    "any number of cores.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="AXIS=VALUE",
    help="Of a recipe with a matrix, run these cells only (repeatable; values of one axis are "
    "alternatives): --only language=hau,seed=7.",
)
@click.option(
    "--cells",
    is_flag=True,
    help="List the matrix's cells and how far each is; run nothing.",
)
@STORE
def command(**options: Any) -> None:
    """Run RECIPE: compress, measure, choose, bundle and report.

    Exit code 0: a winner keeps the budget; 3: no candidate does; 4: undecided, because a
    measurement is missing or invalid. What is finished is kept, and the same command goes on.

    A recipe with a `matrix:` is run once per cell, into OUTPUT/CELL, and all cells are shown
    together in OUTPUT/matrix.html; exit code 1: a cell failed.
    """
    from rich.console import Console

    from edgecompress.api.ran import MatrixCells, Run
    from edgecompress.api.running import run
    from edgecompress.report.terminal import print_page

    found, output = run(**options), options["output"]
    if isinstance(found, MatrixCells):
        say(str(found))
        return
    console = Console(highlight=False)
    print_page(found.page(), console)
    console.print(f"\nReport   {output / found.report.name}", soft_wrap=True)
    if isinstance(found, Run) and found.winner:
        console.print(f"Bundle   {output}/bundle", soft_wrap=True)
        console.print("\nNext, without torch:", style="bold")
        text = "Nairobi ni mji mkuu wa Kenya"  # any text does; this one suits what we ship
        console.print(f'  edgecompress predict {output}/bundle "{text}"', soft_wrap=True)
        console.print(f"  edgecompress bundle verify {output}/bundle", soft_wrap=True)
    click.get_current_context().exit(found.exit_code)
