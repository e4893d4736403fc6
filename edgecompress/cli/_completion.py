"""What the shell completes beside commands, options and choices: names that are quick to find.

Nothing here imports torch. Whatever goes wrong (a broken `targets.yaml`, a package that a device
lacks), there is nothing to offer, and no message in the middle of a line that somebody types.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Leave it to the shell, which completes files."""
    return [CompletionItem(incomplete, type="file")]


def _names(give: Callable[[str], Iterable[str]]) -> Completer:
    """Complete what `give` names that begins as was typed."""

    @functools.wraps(give)
    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        repeated = param.nargs != 1 or param.multiple
        taken = set(ctx.params.get(str(param.name)) or ()) if repeated else set()
        try:
            names = sorted(give(incomplete))
        except Exception:  # noqa: BLE001 - who completes a line is told nothing else
            return []
        return [
            CompletionItem(name)
            for name in names
            if name.startswith(incomplete) and name not in taken
        ]

    return complete


@_names
def stages(_incomplete: str) -> Iterable[str]:
    """Give the stages."""
    from edgecompress.stage import stage_modules

    return stage_modules()


def stages_of(family: str) -> Completer:
    """Give a completer for the stages of a family, without its name: schemes of ``quantize``."""

    @_names
    def complete(_incomplete: str) -> Iterable[str]:
        from edgecompress.stage import stage_modules

        begin = f"{family}."
        return [name.removeprefix(begin) for name in stage_modules() if name.startswith(begin)]

    return complete


@_names
def tasks(_incomplete: str) -> Iterable[str]:
    """Give the tasks."""
    from edgecompress.tasks import task_names

    return task_names()


@_names
def formats(_incomplete: str) -> Iterable[str]:
    """Give the formats of data."""
    from edgecompress.data import data_formats

    return data_formats()


@_names
def targets(_incomplete: str) -> Iterable[str]:
    """Give the names of the fleet, and URLs that need no name."""
    from edgecompress.targets.fleet import find_fleet
    from edgecompress.targets.kinds import kinds

    urls = [url for kind in kinds().values() for url in kind.urls() if "user@" not in url]
    return [*find_fleet().targets, *urls]


@_names
def _recipe_names(incomplete: str) -> Iterable[str]:
    """Give recipes that are installed, by name, and those in the folder that was typed."""
    from edgecompress.resources import resource_folder

    folder = incomplete.rpartition("/")[0]
    here = [
        str(file)
        for file in Path(folder or ".").iterdir()
        if file.suffix in (".yaml", ".yml") and file.name != "targets.yaml"
    ]
    if folder:
        return here
    return [*here, *(file.stem for file in resource_folder("models").glob("*.yaml"))]


def recipes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete recipes; where there is none, files, which leads into other folders."""
    found = _recipe_names(ctx, param, incomplete)
    spaced = any(" " in str(item.value) for item in found)  # bash would take them for several
    return files(ctx, param, incomplete) if spaced or not found else found
