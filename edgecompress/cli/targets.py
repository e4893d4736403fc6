"""``edgecompress targets``: what the targets are, what they lack, and setting them up."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecompress.cli import _completion
from edgecompress.cli._functions import command_of
from edgecompress.cli._help import Group
from edgecompress.cli._output import say_error
from edgecompress.words import printable

if TYPE_CHECKING:
    from edgecompress.api.targets import TargetsDone

_FLEET = {
    "metavar": "FILE",
    "type": click.Path(exists=True, dir_okay=False, path_type=Path),
}
_NAMES = {
    "argument": True,
    "nargs": -1,
    "metavar": "NAME…",
    "shell_complete": _completion.targets,
}


def _draw(function: Any, **options: Any) -> int:
    from rich.console import Console

    found = function(**options)
    Console(highlight=False).print(found)  # wrapped, in a file too
    return int(getattr(found, "exit_code", 0))


def _do(function: Any, **options: Any) -> int:
    return _say(function(**options))


_BOTH = {"names": _NAMES, "targets": _FLEET}
targets = Group(
    "targets",
    also_called={"list": ("ls", "show"), "check": ("test",), "prepare": ("setup",)},
    help="""Look at targets, set them up, and clean them.

    NAME is a name of the fleet file (targets.yaml), or a URL; `list` shows what URLs there are.
    """,
    commands={
        "list": command_of("targets.list_targets", changes={"targets": _FLEET})(_draw),
        "check": command_of(
            "targets.check_targets",
            changes={"names": {**_NAMES, "metavar": "[NAME…]"}, "targets": _FLEET},
        )(_draw),
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
