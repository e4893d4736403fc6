"""Every command has its function, and every option its argument, by the same name and default."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import click
import pytest

import edgecompress
from edgecompress.cli.main import cli

FUNCTIONS = {
    "bundle diff": "diff_bundles",
    "bundle pack": "pack_bundle",
    "bundle show": "show_bundle",
    "bundle sign": "sign_bundle",
    "bundle unpack": "unpack_bundle",
    "bundle verify": "verify_bundle",
    "stages": "list_stages",
    "store prune": "prune_store",
    "store show": "show_store",
    "targets check": "check_targets",
    "targets clean": "clean_targets",
    "targets list": "list_targets",
    "targets prepare": "prepare_targets",
}
"""Commands whose function has another name: a word alone would be a room of the package."""
ARGUMENTS = {
    "set": "settings",
    "set-recipe": "recipe_settings",
    "min-duration": "min_duration_ms",  # the command line reads 10s
    "tokenizer": "preprocessor",
}
"""Options whose argument has another name."""
PRINTING = {
    "as_json": "results have to_json and print themselves",
    "exit_code": "results say same_core and exit_code",
    "file": "a function is given texts, and no file to read them from",
    "jsonl": "see file",
    "file_columns": "see file",
}
"""Parameters that say how the command line reads and prints: no argument stands for them."""
STAGES = ("distil", "export", "factorize", "finetune", "prune", "quantize", "trim")


def walk(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from walk(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


COMMANDS = dict(walk(cli))


def function_of(command: str) -> Any:
    return getattr(edgecompress, FUNCTIONS.get(command, command))


def argument_of(command: str, parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Argument):
        return str(parameter.name)
    longest = next(name for name in parameter.opts if name.startswith("--")).removeprefix("--")
    if longest == "set" and command in STAGES:
        return "fields"
    return ARGUMENTS.get(longest, longest.replace("-", "_"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_an_argument(command: str) -> None:
    known = inspect.signature(function_of(command)).parameters
    for parameter in COMMANDS[command].params:
        if parameter.name in PRINTING:
            continue
        name = argument_of(command, parameter)
        assert name in known, f"{command}: no argument {name}"
        if name == "fields":
            assert known[name].kind is inspect.Parameter.VAR_KEYWORD
        elif not isinstance(parameter, click.Argument) and not parameter.required:
            said = parameter.to_info_dict()["default"]
            assert (known[name].default or None) == (said or None), f"{command}: {name}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_argument_is_an_option(command: str) -> None:
    only_here = {"progress", "started", "tell", "fields"}
    options = {argument_of(command, one) for one in COMMANDS[command].params}
    assert set(inspect.signature(function_of(command)).parameters) - only_here <= options


@pytest.mark.parametrize("command", COMMANDS)
def test_every_function_is_public_and_described(command: str) -> None:
    name = FUNCTIONS.get(command, command)
    assert name in edgecompress.__all__
    page = inspect.getdoc(function_of(command)) or ""
    assert page.partition("\n")[0].endswith(".")
    known = inspect.signature(function_of(command)).parameters
    assert all(argument in page for argument in known)
    assert not re.search(r"^[A-Z_]+$", page, flags=re.MULTILINE), "a shared part is not put in"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_does(command: str) -> None:
    for one in COMMANDS[command].params:
        if isinstance(one, click.Option):
            assert one.help
            assert "`" not in one.help or " " in one.help.split("`")[1], "a name of an argument"


def test_all_public_names_are_there() -> None:
    for name in edgecompress.__all__:
        assert getattr(edgecompress, name) is not None
        assert name in dir(edgecompress)
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        edgecompress.quantise  # noqa: B018
