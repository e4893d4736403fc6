"""``edgecompress quantize``: int8 by ONNX Runtime or Intel Neural Compressor."""

from __future__ import annotations

from typing import Any

import click

from edgecompress.cli._single import apply_stage, stage_options


@click.command(name="quantize")
@click.option(
    "--scheme",
    default="dynamic",
    show_default=True,
    help="dynamic, static, weights (ONNX in); inc_static, inc_dynamic (PyTorch in).",
)
@stage_options
def command(model: str, scheme: str, **options: Any) -> None:
    """Quantize MODEL to int8; dynamic needs no data and no recipe."""
    apply_stage(model, f"quantize.{scheme}", options)
