"""``edgecompress export``: PyTorch in, ONNX out."""

from __future__ import annotations

from typing import Any

import click

from edgecompress.cli._single import apply_stage, stage_options


@click.command(name="export")
@stage_options
def command(model: str, **options: Any) -> None:
    """Export the PyTorch MODEL to ONNX and prove that the answers are the same."""
    apply_stage(model, "export", options)
