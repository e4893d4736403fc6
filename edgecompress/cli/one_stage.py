"""The commands that apply one stage: ``export``, ``finetune``, ``distil``, ``prune`` and so on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from edgecompress.cli._functions import Changes, command_of
from edgecompress.cli._output import beware, say, usage_errors
from edgecompress.cli._values import number

_EXISTING = {"type": click.Path(path_type=Path, exists=True)}
_SHARE = number(0, 1, above=True)
_CHANGES: dict[str, Changes] = {
    "quantize": {"data": _EXISTING, "preprocessor": _EXISTING},
    "trim": {
        "corpus": {"metavar": "TEXT"},
        "coverage": {"type": _SHARE, "metavar": "SHARE"},
    },
}
_NO_FIELDS = frozenset(
    ("model", "output", "teacher", "method", "scheme", "data", "recipe", "task", "format", "train",
     "validation", "test", "recipe_settings", "store", "progress")
)  # fmt: skip
"""Arguments of functions that stand for options alone; others (`force`) are fields as well."""


def _apply(function: Callable[..., Any], settings: Sequence[str], **options: Any) -> None:
    """Call the function of a command that applies one stage, and say what came of it."""
    with usage_errors():
        made = function(**{**options, **_fields(function, settings)})
    say(made.sentence)
    for remark in made.remarks:
        if remark.warning:
            beware(remark.text)
        else:
            say(remark.text)


def _fields(function: Callable[..., Any], settings: Sequence[str]) -> dict[str, Any]:
    """Read the fields of a stage that are set; no option can be given as one."""
    from edgecompress.errors import RecipeError
    from edgecompress.yamlfile import apply_settings

    fields: dict[str, Any] = apply_settings({}, settings)
    taken = _NO_FIELDS & fields.keys() & inspect.signature(function).parameters.keys()
    for name in sorted(taken):
        raise RecipeError(f"the stage has no such field; give --{name}", key=f"--set {name}")
    return fields


distil, export, factorize, finetune, prune, quantize, trim = (
    command_of(f"stages.{name}", changes=_CHANGES.get(name))(_apply)
    for name in ("distil", "export", "factorize", "finetune", "prune", "quantize", "trim")
)
