"""``edgecompress reproduce``: make a bundle again from nothing, and compare it with the first."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edgecompress.cli._functions import command_of
from edgecompress.cli._output import answer

_FOLDER = click.Path(path_type=Path, file_okay=False)
_JSON = click.Option(
    ["--json", "as_json"], is_flag=True, help="Write everything as one JSON document."
)


@command_of(
    "reproducing.reproduce",
    also=[_JSON],
    changes={
        "data_root": {"type": _FOLDER},
        "store": {"envvar": None, "show_envvar": False},  # a shared one would not be clean
        "output": {"type": _FOLDER},
        "yes": {"help": "Fetch the hub's models that the bundle names."},
    },
)
def reproduce(function: Any, as_json: bool, yes: bool, **options: Any) -> int:
    """Print what differs."""
    found = function(**options, yes=yes or _agreed)
    answer(found, as_json)
    code: int = found.exit_code
    return code


def _agreed(names: Sequence[str]) -> bool:
    """Ask a person at a terminal; nobody else can agree."""
    if not sys.stdin.isatty():
        return False
    asked = (
        f"The bundle names {' and '.join(map(repr, names))}: fetch it from the Hugging Face hub?"
    )
    return click.confirm(asked, err=True)
