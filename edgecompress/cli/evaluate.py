"""``edgecompress evaluate``: a model's accuracy, in all and per label and file."""

from __future__ import annotations

from typing import Any

import click

from edgecompress.cli._single import build, data_options, show_measurements


@click.command(name="evaluate")
@click.argument("model")
@click.option(
    "--split", type=click.Choice(["validation", "test"]), default="validation", show_default=True
)
@click.option("--teacher", default=None, help="Compare with this model: agreement and drop.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
@data_options
def command(model: str, split: str, teacher: str | None, as_json: bool, **options: Any) -> None:
    """Measure the accuracy of MODEL: an ONNX or PyTorch candidate, a bundle, a directory."""
    from edgecompress.cli._progress import TerminalReporter
    from edgecompress.single import evaluate_one

    recipe = build(model, None, options, teacher)
    with TerminalReporter() as reporter:
        found = evaluate_one(recipe, options["store"], reporter, split)
    show_measurements(found, as_json)
