"""``edgecompress prune``: remove structure from a PyTorch model for good."""

from __future__ import annotations

from typing import Any

import click

from edgecompress.cli._single import apply_stage, stage_options


@click.command(name="prune")
@click.option("--method", default="structured", show_default=True, help="structured or layers.")
@stage_options
def command(model: str, method: str, **options: Any) -> None:
    """Remove heads and neurons, or whole layers, of the PyTorch MODEL for good."""
    apply_stage(model, f"prune.{method}", options)
