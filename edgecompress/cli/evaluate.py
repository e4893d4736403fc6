"""``edgecompress evaluate``: a model's accuracy, in all and per label and file."""

from __future__ import annotations

from typing import Any

import click

from edgecompress.cli._output import say_json, show
from edgecompress.cli._single import data_options


@click.command(name="evaluate")
@click.argument("model")
@click.option(
    "--split", type=click.Choice(["validation", "test"]), default="validation", show_default=True
)
@click.option("--teacher", default=None, help="Compare with this model: agreement and drop.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
@data_options
def command(as_json: bool, **options: Any) -> None:
    """Measure the accuracy of MODEL: an ONNX or PyTorch candidate, a bundle, a directory."""
    from edgecompress.api.measuring import evaluate

    found = evaluate(**options)
    if as_json:
        say_json(found.to_json_lines())
    else:
        show(found)
