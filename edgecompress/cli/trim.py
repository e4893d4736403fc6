"""``edgecompress trim``: fewer word pieces, and what that costs on held-out text."""

from __future__ import annotations

from typing import Any

import click

from edgecompress.cli._single import apply_stage, stage_options


@click.command(name="trim")
@click.option(
    "--corpus", multiple=True, metavar="TEXT",
    help="Text that says which pieces are needed (repeatable): `train`, a file with one text a "
    "line, or conll:FILE or tsv:FILE.  [default: train]",
)  # fmt: skip
@click.option("--keep", type=click.IntRange(min=1), help="How many pieces to keep.")
@click.option(
    "--coverage", type=click.FloatRange(0, 1, min_open=True),
    help="In place of --keep: the share of the corpus' pieces that must be kept.",
)  # fmt: skip
@click.option(
    "--alphabet", type=click.Choice(["all", "scripts", "corpus"]),
    help="Single characters to keep: all, those of the corpus' scripts, or those it uses.",
)  # fmt: skip
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    help="Instead of dropping pieces, let rare ones use the rows of similar ones: how many rows.",
)
@stage_options
def command(**options: Any) -> None:
    """Remove the word pieces that a corpus does not need from the PyTorch MODEL for good.

    Its tokenizer goes with it; what that costs on validation text is printed. With --rows the
    tokenizer stays as it is, and pieces share rows of the embedding (vocabulary.share).
    """
    from edgecompress.api.stages import trim

    apply_stage(trim, **options)
