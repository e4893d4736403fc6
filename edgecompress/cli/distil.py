"""``edgecompress distil``: teach a smaller model what a larger one knows."""

from __future__ import annotations

from typing import Any

import click

from edgecompress.cli._single import apply_stage, stage_options


@click.command(name="distil")
@click.option("--teacher", default=None, help="Directory or hub id; else the recipe's teacher.")
@stage_options
def command(**options: Any) -> None:
    """Train MODEL, the student, to answer like the teacher."""
    from edgecompress.api.stages import distil

    apply_stage(distil, **options)
