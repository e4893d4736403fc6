"""``edgecompress finetune``: train a model on its task."""

from __future__ import annotations

from typing import Any

import click

from edgecompress.cli._single import apply_stage, stage_options


@click.command(name="finetune")
@stage_options
def command(**options: Any) -> None:
    """Fine-tune MODEL (a directory or a hub id) on labelled data."""
    from edgecompress.api.stages import finetune

    apply_stage(finetune, **options)
