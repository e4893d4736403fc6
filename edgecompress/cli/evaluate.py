"""``edgecompress evaluate``: a model's accuracy, in all and per label and file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgecompress.cli._single import build, data_options, show_measurements

if TYPE_CHECKING:
    from edgecompress.engine.floor import Standing
    from edgecompress.values import Measurement


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
    from edgecompress.api.progress import TerminalReporter
    from edgecompress.engine.single import evaluate_one

    recipe = build(model, None, options, teacher)
    with TerminalReporter() as reporter:
        found, floor = evaluate_one(recipe, options["store"], reporter, split)
    show_measurements(found, as_json)
    if floor is not None and not as_json:
        _say_floor(found, floor)


def _say_floor(found: tuple[Measurement, ...], floor: Standing) -> None:
    """Say what answering everything alike scores, in red where the model is no better."""
    lead = next((one for one in found if one.metric.endswith("_over_floor")), None)
    if lead is None:
        return  # no target answered
    metric = lead.metric.removesuffix("_over_floor")
    value = next(one.value for one in floor.row.measurements if one.metric == metric)
    note = floor.note
    click.echo(
        f"«{floor.row.name}» ({note['answers']}, counted in {note['from']}) has "
        f"{value * 100:.2f} points of {metric}"
    )
    if lead.interval is not None and lead.interval[0] <= 0:
        text = "the model does not beat that for certain; fine-tune it, or ask more examples"
        click.secho(text, fg="red")
