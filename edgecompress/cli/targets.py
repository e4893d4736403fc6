"""``edgecompress targets``: what the targets are, what they lack, and setting them up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecompress.cli._functions import command_of
from edgecompress.cli._output import say, say_error
from edgecompress.words import printable

if TYPE_CHECKING:
    from edgecompress.api.targets import TargetList, TargetsDone
    from edgecompress.targets import TargetReport

_FLEET = {
    "metavar": "FILE",
    "type": click.Path(exists=True, dir_okay=False, path_type=Path),
}
_NAMES = {"argument": True, "nargs": -1, "metavar": "NAME…"}


@command_of("targets.list_targets", changes={"targets": _FLEET})
def _list(function: Any, **options: Any) -> None:
    _say_fleet(function(**options))


@command_of(
    "targets.check_targets",
    changes={"names": {**_NAMES, "metavar": "[NAME…]"}, "targets": _FLEET},
)
def _check(function: Any, **options: Any) -> int:
    found = function(**options)
    for index, report in enumerate(found.reports):
        if index:
            say()
        _say_report(report)
    code: int = found.exit_code
    return code


def _do(function: Any, **options: Any) -> int:
    return _say(function(**options))


_BOTH = {"names": _NAMES, "targets": _FLEET}
targets = click.Group(
    "targets",
    help="""Look at targets, set them up, and clean them.

    NAME is a name of the fleet file (targets.yaml), or a URL; `list` shows what URLs there are.
    """,
    commands={
        "list": _list,
        "check": _check,
        "prepare": command_of("targets.prepare_targets", changes=_BOTH)(_do),
        "clean": command_of("targets.clean_targets", changes=_BOTH)(_do),
    },
)


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
