"""What the single-stage commands share: their options, and how they run and answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecompress.cli._options import STORE, find_recipe
from edgecompress.cli._output import say, say_json

if TYPE_CHECKING:
    from edgecompress.values import Candidate

Function = Callable[..., Any]
LARGER = (
    "the file has grown, as it holds few weights beside the nodes that quantizing adds; keep it "
    "only where it is faster (edgecompress profile BEFORE AFTER --compare)"
)

_DATA_OPTIONS = (
    click.option("--recipe", "like", metavar="RECIPE", default=None,
                 help="Take task, data, seed and targets from this recipe."),
    click.option("--task", default=None,
                 help="token-classification, text-classification or masked-lm."),
    click.option("--format", "data_format", default=None,
                 help="Of the data files: conll, tsv, text …"),
    click.option("--train", multiple=True, type=click.Path(path_type=Path), help="Training file."),
    click.option("--validation", multiple=True, type=click.Path(path_type=Path),
                 help="Validation file."),
    click.option("--test", multiple=True, type=click.Path(path_type=Path), help="Test file."),
    click.option("--set-recipe", "recipe_settings", multiple=True, metavar="KEY=VALUE",
                 help="Set a field of the recipe, such as data.root=DIR or seed=3."),
    STORE,
)  # fmt: skip


def data_options(function: Function) -> Function:
    """Add the options that say on which data a stage works."""
    for option in reversed(_DATA_OPTIONS):
        function = option(function)
    return function


def stage_options(function: Function) -> Function:
    """Add the options of a command that applies one stage."""
    output = click.option(
        "-o", "--output", required=True, type=click.Path(path_type=Path),
        help="Directory to write; a file name ending in .onnx writes the model alone.",
    )  # fmt: skip
    fields = click.option(
        "--set", "settings", multiple=True, metavar="FIELD=VALUE",
        help="Set a field of the stage (repeatable); `edgecompress stages NAME` lists them.",
    )  # fmt: skip
    return click.argument("model")(output(fields(data_options(function))))


def recipe_settings(options: dict[str, Any]) -> list[str]:
    """Turn the data options into settings of a recipe."""
    from edgecompress.yamlfile import setting

    settings = list(options["recipe_settings"])
    if options["data_format"]:
        settings.insert(0, f"data.format={options['data_format']}")
    for split in ("train", "validation", "test"):
        if options[split]:
            files = [str(path.absolute()) for path in options[split]]
            settings.append(setting(f"data.{split}", files))
    return settings


def build(
    model: str, stage: str | None, options: dict[str, Any], teacher: str | None = None
) -> Any:
    """Build the one-stage recipe of a command."""
    from edgecompress.engine.single import single_recipe

    return single_recipe(
        model,
        stage,
        like=find_recipe(options["like"]) if options["like"] else None,
        teacher=teacher,
        task=options["task"],
        settings=options.get("settings", ()),
        data_settings=recipe_settings(options),
    )


def apply_stage(
    model: str, stage: str, options: dict[str, Any], teacher: str | None = None
) -> None:
    """Run a command that applies one stage, and say what came of it."""
    from edgecompress.api.progress import TerminalReporter
    from edgecompress.data.calibration import few_examples
    from edgecompress.engine.single import apply_one
    from edgecompress.parts import by_part
    from edgecompress.targets.size import compressed_size, model_files, total_bytes

    recipe = build(model, stage, options, teacher)
    with TerminalReporter() as reporter:
        before, after = apply_one(recipe, options["output"], options["store"], reporter)
    old, new = total_bytes(before.model), total_bytes(after.model)
    grown = new > old
    change = f"{new / max(old, 1):.2f}× larger" if grown else f"{old / max(new, 1):.2f}× smaller"
    say(f"{stage}: {old / 1e6:.2f} MB → {new / 1e6:.2f} MB ({change})")
    if grown and stage.startswith("quantize."):
        click.secho("beware: " + LARGER, fg="yellow", err=True)
    if old == new:  # zeros in the place of weights show only when the files are packed
        packed, smaller = (compressed_size(model_files(it.model)) for it in (before, after))
        say(f"as a compressed download: {packed / 1e6:.2f} MB → {smaller / 1e6:.2f} MB")
    for line in _remarks(after):
        say(line)
    for name, decided in by_part(after.steps[-1].decisions).items():
        for line in _left_out(decided.get("exceptions", {})):
            say(_of_part(name, line))
    for name, measured in by_part(after.steps[-1].measured).items():
        if answers := measured.get("answers"):
            from edgecompress.quantization.prove.judging import answer_lines

            for line in answer_lines(answers):
                say(_of_part(name, line))
    remark = few_examples(after.steps[-1].decisions)
    if remark:
        click.secho(f"beware: {remark}", fg="yellow", err=True)
    say(f"wrote {options['output']}")


def _remarks(made: Candidate) -> list[str]:
    """Say what a quantization did otherwise than one would think."""
    from edgecompress.quantization.prove.proven import stored_twice
    from edgecompress.values import OnnxModel

    step, lines = made.steps[-1], []
    asked, ran = step.parameters.get("samples"), step.decisions.get("calibrated_on")
    if asked and ran and ran < asked:
        lines.append(f"calibrated on {ran} samples: there are no more, of {asked} asked for")
    if step.stage.startswith("quantize.") and isinstance(made.model, OnnxModel):
        for name, part in made.model.graphs.items():
            twice = stored_twice(part.path)
            if twice:
                more = f" and {len(twice) - 3} more" if len(twice) > 3 else ""
                line = (
                    f"stored twice: {', '.join(twice[:3])}{more} (nodes that are not quantized "
                    "read the fp32 weight, too)"
                )
                lines.append(_of_part(name if made.model.parts else "", line))
    return lines


def _of_part(name: str, line: str) -> str:
    """Say of which part of a model a line is."""
    return f"{name}: {line}" if name else line


def _left_out(exceptions: dict[str, str]) -> list[str]:
    """Say for each reason which layers a quantization left in fp32."""
    reasons: dict[str, list[str]] = {}
    for layer, reason in exceptions.items():
        reasons.setdefault(reason, []).append(layer)
    lines = []
    for reason, layers in reasons.items():
        more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
        lines.append(f"in fp32: {', '.join(layers[:3])}{more} ({reason})")
    return lines


def show_measurements(found: Any, as_json: bool) -> None:
    """Print measurements as a table, or as JSON lines."""
    import json
    from dataclasses import asdict

    if as_json:
        for measurement in found:
            say_json(json.dumps(asdict(measurement), ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    from edgecompress.choose import show

    table = Table(box=None)
    for heading in ("metric", "of", "where", "value", "95 % interval", "samples"):
        table.add_column(heading, justify="right" if heading in ("value", "samples") else "left")
    reasons = []
    for m in found:
        interval = f"{show(m.interval[0], m)} … {show(m.interval[1], m)}" if m.interval else ""
        mark = ""
        if m.invalid:
            reasons.append(f"{m.metric}: {m.invalid}")
            mark = " (invalid)"
        where = m.target or m.split or ""
        table.add_row(
            m.metric, m.slice or "", where, show(m.value, m) + mark, interval, str(m.samples)
        )
    console = Console(highlight=False)
    console.print(table)
    for reason in dict.fromkeys(reasons):
        console.print(f"invalid: {reason}", style="yellow")
