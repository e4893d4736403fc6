"""``edgecompress prune``: remove structure from a PyTorch model for good."""

from __future__ import annotations

from typing import Any

import click

from edgecompress.cli._single import apply_stage, stage_options


@click.command(name="prune")
@click.option(
    "--method",
    default="structured",
    show_default=True,
    help="structured, layers or magnitude.",
)
@stage_options
def command(**options: Any) -> None:
    """Remove heads and neurons, or whole layers, of the PyTorch MODEL for good.

    With --method magnitude its smallest weights become zero (--set sparsity=0.8, or pattern=2:4):
    no inference gets faster by that, but the compressed download gets smaller.
    """
    from edgecompress.api.stages import prune

    apply_stage(prune, **options)
