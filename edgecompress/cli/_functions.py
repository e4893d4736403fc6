"""Commands made of the functions of `edgecompress.api`: a docstring there is the help here.

A function is read from its source, so that ``--help`` imports nothing; it is imported when the
command runs.
"""

from __future__ import annotations

import ast
import functools
import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import edgecompress.api
from edgecompress.api.arguments import described
from edgecompress.cli import _completion
from edgecompress.cli._help import DATA, Command
from edgecompress.cli._values import (
    AutoOr,
    named_bounds,
    named_columns,
    named_sizes,
    number,
    whole,
    whole_numbers,
)

Changes = Mapping[str, Mapping[str, Any] | None]
PATH = click.Path(path_type=Path)
COUNT = whole(1)
REQUIRED = object()
_PARAMETER = re.compile(r"(\*\*\w+|\w+(?:, \w+)*)(?: : (.+?)(?:, optional)?)?")
_SETTINGS = {"multiple": True, "metavar": "KEY=VALUE"}
_KINDS: dict[str, dict[str, Any]] = {
    "str": {},
    "path": {"type": PATH},
    "path or str": {"shell_complete": _completion.files},
    "str or iterable": {},
    "int": {"type": COUNT, "metavar": "N"},
    'int or "auto"': {"type": AutoOr(), "metavar": "auto|N"},
    "bool or callable": {"is_flag": True},
    "float": {"type": number(), "metavar": "NUMBER"},
    "path or sequence of paths": {"type": PATH, "multiple": True},
    "str or sequence of str": {"multiple": True},
    "int or sequence of int": {"callback": whole_numbers(1), "metavar": "N,N"},
    "mapping of str to object": _SETTINGS,
    "mapping of str to str": {
        "multiple": True,
        "callback": named_columns,
        "metavar": "NAME=COLUMN",
    },
    "mapping of str to int": {"multiple": True, "callback": named_sizes, "metavar": "NAME=N"},
    "mapping of str to bounds": {"multiple": True, "callback": named_bounds, "metavar": "NAME=N"},
    "": {**_SETTINGS, "metavar": "FIELD=VALUE"},
}
"""What docstrings call the kinds of arguments, and how the command line reads each."""
_ALIKE: dict[str, dict[str, Any]] = {
    "fields": {"flags": ("--set", "settings")},
    "settings": {"flags": ("--set", "settings")},
    "recipe_settings": {"flags": ("--set-recipe", "recipe_settings")},
    "output": {"flags": ("-o", "--output")},
    "recipe": {"shell_complete": _completion.recipes},
    "task": {"shell_complete": _completion.tasks},
    "format": {"shell_complete": _completion.formats},
    "scheme": {"shell_complete": _completion.stages_of("quantize")},
    "method": {"shell_complete": _completion.stages_of("prune")},
    "target": {"shell_complete": _completion.targets},
    "preprocessor": {"flags": ("--tokenizer", "--preprocessor", "preprocessor")},
    "store": {
        "type": click.Path(path_type=Path, file_okay=False),
        "envvar": "EDGECOMPRESS_STORE",
        "show_envvar": True,
    },
}
"""What is alike wherever an argument has such a name."""


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a function: its kind and text are those of the docstring."""

    name: str
    kind: str
    text: str
    default: Any
    positional: bool

    @property
    def is_option(self) -> bool:
        """Whether the command line gives it by its name."""
        return not self.positional or self.default is not REQUIRED or self.name == "output"


def read_function(place: str) -> tuple[str, list[Argument]]:
    """Read what the docstring of ``module.function`` says of it, and of each argument."""
    module, name = place.split(".")
    source = (Path(edgecompress.api.__file__).parent / f"{module}.py").read_text(encoding="utf-8")
    function = next(
        one
        for one in ast.parse(source).body
        if isinstance(one, ast.FunctionDef) and one.name == name
    )
    text, _, rest = described(ast.get_docstring(function) or "").partition("Parameters\n------")
    defaults = dict(_defaults(function.args))
    positional = {one.arg for one in function.args.args}
    given = re.split(r"^\w+\n-+$", rest, maxsplit=1, flags=re.MULTILINE)[0]
    found = []
    for entry in re.split(r"\n(?=\S)", given)[1:]:
        head, _, below = entry.partition("\n")
        parts = _PARAMETER.fullmatch(head)
        if parts is None:
            raise ValueError(f"{place}: {head!r} is not NAME : KIND")
        for one in parts[1].strip("*").split(", "):
            said = " ".join(below.split())
            default = defaults.get(one)
            found.append(Argument(one, parts[2] or "", said, default, one in positional))
    return text.strip(), found


def _defaults(given: ast.arguments) -> Iterator[tuple[str, Any]]:
    filled = [None] * (len(given.args) - len(given.defaults)) + list(given.defaults)
    for one, value in (
        *zip(given.args, filled, strict=True),
        *zip(given.kwonlyargs, given.kw_defaults, strict=True),
    ):
        try:
            yield one.arg, REQUIRED if value is None else ast.literal_eval(value)
        except ValueError:  # a name: the command says what it stands for
            yield one.arg, None


def command_of(
    place: str,
    *,
    also: Sequence[click.Parameter] = (),
    more: str = "",
    changes: Changes | None = None,
) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command of a function of the API.

    Parameters
    ----------
    place : str
        ``module.function`` in `edgecompress.api`.
    also : sequence of click.Parameter
        Options that say how the command line reads or prints.
    more : str
        What only the command line's help says.
    changes : mapping of str to mapping, optional
        Of some arguments, how the command line reads them otherwise; None leaves one out.

    Returns
    -------
    decorator
        The decorated function is given the API's function and the options; what it returns is the
        exit code.
    """

    def decorate(run: Callable[..., Any]) -> click.Command:
        text, arguments = read_function(place)
        wanted: dict[str, Any] = {"progress": None, **(changes or {})}
        kept = [one for one in arguments if wanted.get(one.name, {}) is not None]
        spelled = {one.name: _spelled(one, wanted.get(one.name) or {}) for one in arguments}
        parameters = [_parameter(one, wanted.get(one.name, {}), spelled) for one in kept]

        @functools.wraps(run)
        def call(**options: Any) -> None:
            module, name = place.split(".")
            function = getattr(importlib.import_module(f"edgecompress.api.{module}"), name)
            click.get_current_context().exit(run(function, **options) or 0)

        said = "\n\n".join(filter(None, (_for_help(text, spelled), more)))
        return Command(
            place.partition(".")[2],
            params=[*parameters, *also],
            callback=call,
            help=said,
            arguments={one.name: _for_help(one.text, spelled) for one in kept},
            shared={one.name for one in arguments} >= DATA,
        )

    return decorate


def _spelled(one: Argument, change: Mapping[str, Any]) -> str:
    if change.get("argument", not one.is_option):
        return one.name.upper()
    flags = _ALIKE.get(one.name, {}).get("flags", (f"--{one.name.replace('_', '-')}",))
    return next(flag for flag in flags if flag.startswith("--"))


def _for_help(text: str, spelled: Mapping[str, str]) -> str:
    """Write names of arguments as they are typed."""
    named = re.sub(r"(?<!`)`(\w+)`(?!`)", lambda name: spelled.get(name[1], name[0]), text)
    return named.replace("``", "`")


def _parameter(
    one: Argument, change: Mapping[str, Any], spelled: Mapping[str, str]
) -> click.Parameter:
    said = {**_kind(one), **_ALIKE.get(one.name, {}), **change}
    flags = said.pop("flags", (f"--{one.name.replace('_', '-')}",))
    if said.pop("argument", not one.is_option):
        said.pop("multiple", None)
        return click.Argument([one.name], **{"required": one.default is REQUIRED, **said})
    if one.default is REQUIRED:
        said["required"] = True
    elif one.default not in (None, (), False):
        said = {"default": one.default, "show_default": one.default is not True, **said}
    text = _for_help(one.text, spelled) + " Repeatable." * said.get("multiple", False)
    return click.Option(flags, **{"help": text, **said})


def _kind(one: Argument) -> dict[str, Any]:
    if choices := re.findall(r'"([^"]+)"', one.kind.partition("{")[2]):
        return {"type": click.Choice(choices), "multiple": one.kind.startswith("one or several")}
    if one.kind == "bool":
        name = one.name.replace("_", "-")
        return {"flags": (f"--{name}/--no-{name}",)} if one.default is True else {"is_flag": True}
    return dict(_KINDS[one.kind])
