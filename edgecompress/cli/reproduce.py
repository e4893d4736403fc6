"""``edgecompress reproduce``: make a bundle again from nothing, and compare it with the first."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edgecompress.cli._output import say_json, show


@click.command(name="reproduce")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--data-root",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the data's files; the working directory when left out.",
)
@click.option("--teacher", help="Where the teacher lies now: a directory, or a hub id.")
@click.option("--model", help="Where the model that the chains start from lies now, if any did.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set any field of the recorded recipe (repeatable), such as "
    "stages.quantize.static.calibration=FILE.",
)
@click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    help="A new folder that keeps what is made, so that the same command goes on after an "
    "interruption; a temporary one when left out.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the bundle that is made, in this directory.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="How many threads PyTorch trains with; as many as then, where that is recorded.",
)
@click.option("--yes", is_flag=True, help="Fetch the hub's models that the bundle names.")
@click.option("--json", "as_json", is_flag=True, help="Write everything as one JSON document.")
def command(as_json: bool, yes: bool, **options: Any) -> None:
    """Make BUNDLE again by its own recipe in a clean store, and compare the two.

    What stages decided by measuring is decided as it was; nothing is timed. Data, teacher and
    calibration sets must be those that the bundle was made from: their digests are compared first.
    A model that the bundle names by the id of a hub is fetched only when you agree to it.
    The cores are compared byte by byte; where they differ, also by sizes, weights, and the accuracy
    on validation and test.

    Exit code 0: not a byte of the core differs; 1: something does.
    """
    from edgecompress.api.reproducing import reproduce

    found = reproduce(**options, yes=yes or _agreed)
    if as_json:
        say_json(json.dumps(found.to_json(), indent=1, ensure_ascii=False))
    else:
        show(found)
    click.get_current_context().exit(found.exit_code)


def _agreed(names: Sequence[str]) -> bool:
    """Ask a person at a terminal; nobody else can agree."""
    if not sys.stdin.isatty():
        return False
    asked = (
        f"The bundle names {' and '.join(map(repr, names))}: fetch it from the Hugging Face hub?"
    )
    return click.confirm(asked, err=True)
