"""``edgecompress bundle diff OLD NEW``: what changed from one bundle to another."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from edgecompress.cli._output import say_json
from edgecompress.cli._output import show as show_result
from edgecompress.errors import EdgeCompressError

_PATH = click.Path(path_type=Path)
TROUBLE = 2
"""Exit code of a failure under --exit-code, where 1 says that the bundles differ (as in `diff`)."""


@click.command(name="diff")
@click.argument("old", type=_PATH)
@click.argument("new", type=_PATH)
@click.option(
    "--data",
    multiple=True,
    type=_PATH,
    help="Ask both bundles the texts of this file: CoNLL, TSV, or one text a line. Repeatable.",
)
@click.option(
    "--format",
    type=click.Choice(["conll", "tsv", "text"]),
    help="What the files of --data are; else told from each file.",
)
@click.option("--text-column", default="text", show_default=True, help="Of a TSV file.")
@click.option("--label-column", default="label", show_default=True, help="Of a TSV file.")
@click.option("--recipe", type=_PATH, help="Ask both bundles the examples of this recipe's data.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Laid over --recipe.")
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    default="validation",
    show_default=True,
    help="Which split of --recipe. Who chooses between bundles by test has no test any more.",
)
@click.option("--show", default=20, show_default=True, help="How many flipped answers to list.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads to answer with.")
@click.option("--json", "as_json", is_flag=True, help="Write everything as one JSON document.")
@click.option(
    "--exit-code",
    is_flag=True,
    help="End with 1 when the cores differ, with 2 when something fails.",
)
@click.option(
    "--verify/--no-verify", default=True, help="Compare both bundles with their digests first."
)
def diff(as_json: bool, exit_code: bool, **options: Any) -> None:
    """Say what differs between two bundles, OLD and NEW, directories or archives.

    Compared are model and labels, recipe, code and libraries, data, stages with what they decided,
    files, and the numbers beside the bundles with their intervals. With --data or --recipe both
    answer the same texts, one at a time on this machine, and every answer that flips is counted;
    where the data has labels, also whether it got better or worse.

    The exit code is 0 whether they differ or not. With --exit-code it is 1 when the cores (all that
    deploys) differ in a byte, and 2 when something fails; measurements alone differ from day to
    day, and are no difference then.
    """
    from edgecompress.api.differences import diff_bundles

    try:
        found = diff_bundles(**options)
    except EdgeCompressError as error:
        if exit_code:
            error.exit_code = TROUBLE
        raise
    if as_json:
        say_json(json.dumps(found.to_json(), indent=1, ensure_ascii=False))
    else:
        show_result(found)
    if exit_code and not found.same_core:
        sys.exit(1)
