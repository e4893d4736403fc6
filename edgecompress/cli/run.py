"""``edgecompress run``: the whole way from a recipe to a deployable directory."""

from __future__ import annotations

from pathlib import Path

import click

from edgecompress.api.arguments import find_recipe
from edgecompress.cli._options import SETTINGS, STORE


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
    "list_cells",
    is_flag=True,
    help="List the matrix's cells and how far each is; run nothing.",
)
@STORE
def command(
    recipe: str,
    output: Path,
    settings: tuple[str, ...],
    deterministic: bool,
    only: tuple[str, ...],
    list_cells: bool,
    store: Path | None,
) -> None:
    """Run RECIPE: compress, measure, choose, bundle and report.

    Exit code 0: a winner keeps the budget; 3: no candidate does; 4: undecided, because a
    measurement is missing or invalid. What is finished is kept, and the same command goes on.

    A recipe with a `matrix:` is run once per cell, into OUTPUT/CELL, and all cells are shown
    together in OUTPUT/matrix.html; exit code 1: a cell failed.
    """
    import shlex

    from rich.console import Console

    from edgecompress.api.progress import TerminalReporter
    from edgecompress.cli._matrix import list_matrix, run_cells
    from edgecompress.engine.matrix import read_matrix
    from edgecompress.engine.run import exit_code
    from edgecompress.engine.run import run as run_recipe
    from edgecompress.errors import RecipeError
    from edgecompress.report.run_page import run_page
    from edgecompress.report.terminal import print_page

    settings = (*settings, "threads=1") if deterministic else settings
    words = ["edgecompress", "run", recipe, *(w for s in settings for w in ("--set", s))]
    line = shlex.join([*words, "-o", str(output)])
    matrix = read_matrix(find_recipe(recipe), settings)
    if matrix is not None and list_cells:
        list_matrix(matrix, output, only)
        return
    if matrix is not None:
        code = run_cells(matrix, output, only=only, store=store, command=line)
        click.get_current_context().exit(code)
    if only or list_cells:
        option = "--only" if only else "--cells"
        raise RecipeError(f"{option} is for a recipe with a matrix", file=find_recipe(recipe))
    with TerminalReporter() as reporter:
        result = run_recipe(
            find_recipe(recipe),
            output,
            settings=settings,
            store=store,
            reporter=reporter,
            command=line,
        )
    console = Console(highlight=False)
    print_page(run_page(result), console)
    console.print(f"\nReport   {output}/report.html", soft_wrap=True)
    if result.winner:
        console.print(f"Bundle   {output}/bundle", soft_wrap=True)
        console.print("\nNext, without torch:", style="bold")
        text = "Nairobi ni mji mkuu wa Kenya"  # any text does; this one suits what we ship
        console.print(f'  edgecompress predict {output}/bundle "{text}"', soft_wrap=True)
        console.print(f"  edgecompress bundle verify {output}/bundle", soft_wrap=True)
    click.get_current_context().exit(exit_code(result))
