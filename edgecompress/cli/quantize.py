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
    "inputs",
    type=EXISTING,
    help="Calibration data for static, smooth and weights with gptq, of any graph: an .npz with an "
    "array for each input, a folder of .npz, .npy or images, or texts (.txt, .csv, .tsv).",
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
def command(
    model: str,
    scheme: str,
    inputs: Path | None,
    preprocessor: Path | None,
    force: bool,
    **options: Any,
) -> None:
    """Quantize MODEL to int8; dynamic needs no data and no recipe."""
    from edgecompress.yamlfile import setting

    given = {"inputs": inputs, "preprocessor": preprocessor}
    settings = [setting(field, str(path.absolute())) for field, path in given.items() if path]
    if settings and scheme in ("dynamic", "half"):
        raise click.UsageError(f"{scheme} needs no data; to calibrate with it add --scheme static")
    if settings and scheme.startswith(("auto", "inc_")):
        raise click.UsageError(
            f"{scheme} takes no --data but a task's files: --train FILE --validation FILE "
            "--format NAME, or --recipe RECIPE"
        )
    settings += ["force=true"] if force else []
    options["settings"] = (*settings, *options["settings"])
    apply_stage(model, f"quantize.{scheme}", options)
