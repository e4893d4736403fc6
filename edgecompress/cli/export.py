"""``edgecompress export``: PyTorch in, ONNX out."""

from __future__ import annotations

from typing import Any

import click

from edgecompress.cli._single import apply_stage, stage_options


@click.command(name="export")
@stage_options
def command(**options: Any) -> None:
    """Export the PyTorch MODEL to ONNX and prove that the answers are the same."""
    from edgecompress.api.stages import export

    apply_stage(export, **options)
