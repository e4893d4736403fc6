"""``edgecompress run``: the whole way from a recipe to a deployable directory."""

from __future__ import annotations

from pathlib import Path

import click

from edgecompress.cli._options import SETTINGS, STORE, find_recipe


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
@STORE
def command(
    recipe: str,
    output: Path,
    settings: tuple[str, ...],
    deterministic: bool,
    store: Path | None,
) -> None:
    """Run RECIPE: compress, measure, choose, bundle and report.

    Exit code 0: a winner keeps the budget; 3: no candidate does; 4: undecided, because a
    measurement is missing or invalid. What is finished is kept, and the same command goes on.
    """
    import shlex

    from rich.console import Console

    from edgecompress.cli._progress import TerminalReporter
    from edgecompress.report.terminal import render_terminal
    from edgecompress.run import exit_code
    from edgecompress.run import run as run_recipe

    settings = (*settings, "threads=1") if deterministic else settings
    words = ["edgecompress", "run", recipe, *(w for s in settings for w in ("--set", s))]
    line = shlex.join([*words, "-o", str(output)])
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
    for part in render_terminal(result):
        console.print(part)
    console.print(f"\nReport   {output}/report.html", soft_wrap=True)
    if result.winner:
        console.print(f"Bundle   {output}/bundle", soft_wrap=True)
        console.print("\nNext, without torch:", style="bold")
        text = "Nairobi ni mji mkuu wa Kenya"  # any text does; this one suits what we ship
        console.print(f'  edgecompress predict {output}/bundle "{text}"', soft_wrap=True)
        console.print(f"  edgecompress bundle verify {output}/bundle", soft_wrap=True)
    click.get_current_context().exit(exit_code(result))
