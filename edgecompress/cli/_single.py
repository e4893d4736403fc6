"""What the single-stage commands share: their options, and how they ask and answer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from edgecompress.cli._options import STORE
from edgecompress.cli._output import say

Function = Callable[..., Any]
_NO_FIELDS = frozenset(
    ("model", "output", "teacher", "method", "scheme", "data", "recipe", "task", "format", "train",
     "validation", "test", "recipe_settings", "store", "progress")
)  # fmt: skip
"""Arguments of functions that stand for options alone; others (`force`) are fields as well."""

_DATA_OPTIONS = (
    click.option("--recipe", metavar="RECIPE", default=None,
                 help="Take task, data, seed and targets from this recipe."),
    click.option("--task", default=None,
                 help="What it does, such as token-classification."),
    click.option("--format", default=None, help="Of the data files: conll, tsv, text …"),
    click.option("--train", multiple=True, type=click.Path(path_type=Path), help="Training file."),
    click.option("--validation", multiple=True, type=click.Path(path_type=Path),
                 help="Validation file."),
    click.option("--test", multiple=True, type=click.Path(path_type=Path), help="Test file."),
    click.option("--set-recipe", "recipe_settings", multiple=True, metavar="KEY=VALUE",
                 help="Set a field of the recipe, such as data.root=DIR or seed=3."),
    STORE,
)  # fmt: skip


def data_options(function: Function) -> Function:
    """Add the options that say on which data a stage works."""
    for option in reversed(_DATA_OPTIONS):
        function = option(function)
    return function


def stage_options(function: Function) -> Function:
    """Add the options of a command that applies one stage."""
    output = click.option(
        "-o", "--output", required=True, type=click.Path(path_type=Path),
        help="Directory to write; a file name ending in .onnx writes the model alone.",
    )  # fmt: skip
    fields = click.option(
        "--set", "settings", multiple=True, metavar="FIELD=VALUE",
        help="Set a field of the stage (repeatable); `edgecompress stages NAME` lists them.",
    )  # fmt: skip
    return click.argument("model")(output(fields(data_options(function))))


def apply_stage(function: Function, **options: Any) -> None:
    """Call the function of a command that applies one stage, and say what came of it."""
    fields = _fields(function, options.pop("settings"))
    with usage_errors():
        made = function(**{**options, **fields})
    say(made.sentence)
    for remark in made.remarks:
        if remark.warning:
            click.secho(f"beware: {remark.text}", fg="yellow", err=True)
        else:
            say(remark.text)


def _fields(function: Function, settings: Sequence[str]) -> dict[str, Any]:
    """Read the fields of a stage that are set; no option can be given as one."""
    import inspect

    from edgecompress.errors import RecipeError
    from edgecompress.yamlfile import apply_settings

    fields: dict[str, Any] = apply_settings({}, settings)
    taken = _NO_FIELDS & fields.keys() & inspect.signature(function).parameters.keys()
    for name in sorted(taken):
        raise RecipeError(f"the stage has no such field; give --{name}", key=f"--set {name}")
    return fields


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Show what excludes each other as click shows a wrong option: with the command's usage."""
    from edgecompress.errors import ArgumentError

    try:
        yield
    except ArgumentError as error:
        raise click.UsageError(str(error)) from None
