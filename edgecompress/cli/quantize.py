"""``edgecompress quantize``: int8 by ONNX Runtime or Intel Neural Compressor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgecompress.cli._single import apply_stage, stage_options

EXISTING = click.Path(path_type=Path, exists=True)


@click.command(name="quantize")
@click.option(
    "--scheme",
    default="dynamic",
    show_default=True,
    help="dynamic, static, weights, auto, smooth, half (ONNX in); inc_static, inc_dynamic, "
    "inc_auto (PyTorch in).",
)
@click.option(
    "--data",
    type=EXISTING,
    help="Inputs of any graph: static, smooth and weights with gptq calibrate on them, and all of "
    "these and half compare their answers on them. An .npz with an array for each input, a folder "
    "of .npz, .npy or images, or texts (.txt, .csv, .tsv).",
)
@click.option(
    "--tokenizer",
    "--preprocessor",
    "preprocessor",
    type=EXISTING,
    help="Folder with the tokenizer of --data, or its preprocessor_config.json.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Keep the result although its answers are no longer those of the fp32 model.",
)
@stage_options
def command(**options: Any) -> None:
    """Quantize MODEL to int8; dynamic needs no data and no recipe."""
    from edgecompress.api.stages import quantize

    apply_stage(quantize, **options)
