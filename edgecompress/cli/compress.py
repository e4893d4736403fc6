"""``edgecompress compress``: a model and a file of data in, a bundle out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgecompress.cli._functions import command_of
from edgecompress.cli._runs import show_run
from edgecompress.cli._values import named_columns

_NAMES = {"callback": named_columns, "multiple": True}


@command_of(
    "compressing.compress",
    changes={
        "output": {"type": click.Path(path_type=Path, file_okay=False)},
        "labels": {**_NAMES, "metavar": "CLASS=LABEL"},
        "time": {"metavar": "30m"},
        "max_size": {"metavar": "25MB"},
        "max_latency": {"metavar": "20ms@TARGET"},
    },
)
def compress(function: Any, output: Path, **options: Any) -> int:
    """Print the tables, and what to do next."""
    return show_run(function(output=output, **options), output)
