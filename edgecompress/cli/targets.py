"""``edgecompress targets``: what the targets are, what they lack, and setting them up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecompress.cli._output import say, say_error
from edgecompress.words import printable

if TYPE_CHECKING:
    from edgecompress.api.targets import TargetList, TargetsDone
    from edgecompress.targets import TargetReport

_FLEET = click.option(
    "--targets",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File that names targets; else the targets.yaml of this folder or of your configuration.",
)
_NAMES = click.argument("names", nargs=-1, required=True, metavar="NAME…")


@click.group(name="targets")
def command() -> None:
    """Look at targets, set them up, and clean them.

    NAME is a name of the fleet file (targets.yaml), or a URL; `list` shows what URLs there are.
    """


@command.command(name="list")
@_FLEET
def list_targets(targets: Path | None) -> None:
    """List the fleet and what each target can measure; nothing is connected to."""
    from edgecompress.api.targets import list_targets

    _say_fleet(list_targets(targets=targets))


@command.command(name="check")
@click.argument("names", nargs=-1, metavar="[NAME…]")
@_FLEET
@click.pass_context
def check(context: click.Context, names: tuple[str, ...], targets: Path | None) -> None:
    """Connect to each NAME (else the whole fleet): what it is, and what is missing.

    Exit code 1 when something is missing or a target cannot be reached.
    """
    from edgecompress.api.targets import check_targets

    found = check_targets(names, targets=targets)
    for index, report in enumerate(found.reports):
        if index:
            say()
        _say_report(report)
    context.exit(found.exit_code)


@command.command(name="prepare")
@_NAMES
@_FLEET
@click.pass_context
def prepare(context: click.Context, names: tuple[str, ...], targets: Path | None) -> None:
    """Set each NAME up: a board's virtual environment, or an emulated processor.

    What is there already is kept. A board needs no network: wheels are carried over to it.
    """
    from edgecompress.api.targets import prepare_targets

    context.exit(_say(prepare_targets(names, targets=targets)))


@command.command(name="clean")
@_NAMES
@_FLEET
@click.pass_context
def clean(context: click.Context, names: tuple[str, ...], targets: Path | None) -> None:
    """Remove what was left on each NAME, and say how much that was."""
    from edgecompress.api.targets import clean_targets

    context.exit(_say(clean_targets(names, targets=targets)))


def _say(found: TargetsDone) -> int:
    """Print what became of each target, what failed on standard error; give the exit code."""
    for one in found.targets:
        if one.error is not None:
            say_error(one.text)
        else:
            click.echo(printable(one.text))
    return found.exit_code


def _say_fleet(found: TargetList) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if found.file:
        console.print(Text(f"{found.file} names", style="bold"))
    else:
        console.print("There is no targets.yaml here or in your configuration.")
    if found.targets:
        grid = Table.grid(padding=(0, 2))
        for column in range(3):
            grid.add_column(overflow="fold", style="dim" if column == 1 else "")
        for line in found.targets:
            grid.add_row(*(Text(f"  {part}" if part is line[0] else part) for part in line))
        console.print(grid)
    console.print(Text("\nWithout a name", style="bold"))
    for url, title in found.urls:
        console.print(Text(f"  {url:24} {title}"))


def _say_report(report: TargetReport) -> None:
    """Print what a target is, and what it lacks."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    from edgecompress.api.targets import target_facts

    console = Console(highlight=False)

    def say(text: str, indent: int = 4, style: str = "") -> None:
        if text:
            console.print(Padding(Text(text, style=style), (0, 0, 0, indent), expand=False))

    name = report.spec.name
    console.print(
        Text.assemble((name, "bold"), f"  {report.spec.url}" if report.spec.url != name else "")
    )
    if report.error is not None:
        say(f"✗ {str(report.error).removeprefix(f'{name}: ')}", 2, "red")
        return
    for line in target_facts(report):
        say(line)
    say(f"can measure {', '.join(report.can)}" if report.can else "")
    for finding in report.findings:
        good = finding.level == "note"
        say(f"{'!' if good else '✗'} {finding.what}", 2, "yellow" if good else "red")
        say(finding.advice, 4)
    if report.ready:
        say("✓ ready", 2, "green")
