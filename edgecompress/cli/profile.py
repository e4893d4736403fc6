"""``edgecompress profile``: a model's size, latency and memory on a target."""

from __future__ import annotations

from typing import Any

import click

from edgecompress.cli._single import build, data_options, show_measurements


@click.command(name="profile")
@click.argument("model")
@click.option("--target", "targets", multiple=True, default=("local",), show_default=True)
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True)
@click.option("--teacher", default=None, help="Measure how much faster than this model's export.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
@data_options
def command(
    model: str,
    targets: tuple[str, ...],
    threads: int,
    teacher: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure MODEL: a bundle, a candidate's directory or any ONNX file."""
    import json

    from edgecompress.cli._progress import TerminalReporter
    from edgecompress.single import observe_one

    options["recipe_settings"] = (
        *options["recipe_settings"],
        f"profile.threads={threads}",
        f"targets={json.dumps(list(targets))}",
    )
    recipe = build(model, None, options, teacher)
    with TerminalReporter() as reporter:
        found = observe_one(recipe, "profile", options["store"], reporter, "validation")
    show_measurements(found, as_json)
