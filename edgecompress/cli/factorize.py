"""``edgecompress factorize``: matrices of a PyTorch model as products of smaller ones."""

from __future__ import annotations

from typing import Any

import click

from edgecompress.cli._single import apply_stage, stage_options


@click.command(name="factorize")
@stage_options
def command(**options: Any) -> None:
    """Make products of low rank of the PyTorch MODEL's embedding and linear layers.

    --set embedding=128 gives the word embedding that rank, --set linear.energy=0.9 the linear
    layers ranks that keep that share of what they compute on the training texts.
    """
    from edgecompress.api.stages import factorize

    apply_stage(factorize, **options)
