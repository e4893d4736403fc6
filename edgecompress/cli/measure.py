"""``edgecompress evaluate``, ``profile`` and ``sensitivity``: what models answer and cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgecompress.cli import _completion
from edgecompress.cli._functions import command_of
from edgecompress.cli._output import say, say_error, say_json, show, usage_errors
from edgecompress.cli._values import milliseconds, whole_numbers

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_PLACE = {"type": click.Path(exists=True, path_type=Path)}
_FOLDER = {"type": click.Path(exists=True, file_okay=False, path_type=Path)}
_LINES = click.Option(["--json", "as_json"], is_flag=True, help="Print JSON lines.")


@command_of("measuring.evaluate", also=[_LINES])
def evaluate(function: Any, as_json: bool, **options: Any) -> None:
    """Print measurements."""
    found = function(**options)
    if as_json:
        say_json(found.to_json_lines())
    else:
        show(found)


@command_of(
    "measuring.profile",
    also=[_LINES],
    changes={
        "models": {
            "type": str,
            "nargs": -1,
            "metavar": "MODEL…",
            "shell_complete": _completion.files,
        },
        "target": {"metavar": "TARGET"},
        "targets": {"type": _FILE},
        "affinity": {"callback": whole_numbers(0)},
        "min_duration_ms": {
            "flags": ("--min-duration", "min_duration_ms"),
            "type": str,
            "metavar": "TIME",
            "callback": milliseconds,
        },
        "inputs": {"type": _FILE, "metavar": "FILE.npz"},
    },
)
def profile(function: Any, as_json: bool, **options: Any) -> int:
    """Print the page of each model."""
    from edgecompress.report.terminal import print_page

    with usage_errors():
        found = function(**options)
    for index, one in enumerate(found.models):
        if index and not as_json:
            click.echo()
        if one.error is not None:
            say_error(f"{one.model}: {one.error}")
        elif as_json:
            say_json(one.to_json_lines())
        else:
            print_page(one.page())
    code: int = found.exit_code
    return code


@command_of(
    "measuring.sensitivity",
    also=[
        click.Option(["--json", "as_json"], is_flag=True, help="Print JSON in place of the table.")
    ],
    changes={
        "output": {"type": click.Path(path_type=Path, file_okay=False)},
        "compare": _PLACE,
        "data": _PLACE,
        "preprocessor": _FOLDER,
        "layer": {"metavar": "NAME"},
    },
)
def sensitivity(function: Any, as_json: bool, output: Path | None, **options: Any) -> None:
    """Print the table of layers."""
    found = function(output=output, **options)
    if as_json:
        say_json(json.dumps(found.document, ensure_ascii=False))
        return
    show(found)
    if output is not None:
        say(f"wrote {output / 'sensitivity.html'}")
