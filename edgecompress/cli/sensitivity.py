"""``edgecompress sensitivity``: what quantizing each layer costs, where an int8 model errs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgecompress.cli._output import say, say_json, show
from edgecompress.cli._single import data_options

_OPTIONS = (
    click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), default=None,
                 help="Folder for sensitivity.json and sensitivity.html."),
    click.option("--compare", type=click.Path(exists=True, path_type=Path), default=None,
                 help="Its quantized form: compare both tensor by tensor, in the graph's order."),
    click.option("--data", type=click.Path(exists=True, path_type=Path), default=None,
                 help="Samples in place of validation examples: an .npz with an array for each "
                 "input, a folder of .npz, .npy or images, or texts (.txt, .csv, .tsv)."),
    click.option("--tokenizer", "--preprocessor", "preprocessor",
                 type=click.Path(exists=True, file_okay=False, path_type=Path), default=None,
                 help="Folder with the tokenizer of --data, or its preprocessor_config.json."),
    click.option("--samples", type=click.IntRange(min=1), default=64, show_default=True,
                 help="How many examples or inputs."),
    click.option("--parts", type=click.Choice(["all", "layers", "weights", "activations"]),
                 default="all", show_default=True,
                 help="Whole layers only, weights only, inputs only, or everything."),
    click.option("--layer", multiple=True, metavar="NAME",
                 help="Measure this layer or weight only (repeatable)."),
    click.option("--activations", type=click.Choice(["dynamic", "static"]), default="dynamic",
                 show_default=True, help="How inputs of layers get their ranges."),
    click.option("--reduce-range", is_flag=True, help="Weights in 7 bits: x86 without VNNI."),
    click.option("--per-tensor", is_flag=True, help="One scale for a whole weight."),
    click.option("--time", is_flag=True, help="Also time what each layer's int8 saves."),
    click.option("--top", type=click.IntRange(min=1), default=20, show_default=True,
                 help="Lines of the table that are printed."),
    click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the table."),
)  # fmt: skip


def _own_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command(name="sensitivity")
@click.argument("model")
@_own_options
@data_options
def command(as_json: bool, **options: Any) -> None:
    """Measure what quantizing each layer of the fp32 MODEL costs, and name the culprits.

    Each weight, input and table is rounded alone, and the outputs are compared with fp32: on a
    sample of the validation data with --recipe, else on --data or made-up inputs.
    """
    import json

    from edgecompress.api.measuring import sensitivity

    found = sensitivity(**options)
    if as_json:
        say_json(json.dumps(found.document, ensure_ascii=False))
        return
    show(found)
    if options["output"] is not None:
        say(f"wrote {options['output'] / 'sensitivity.html'}")
