"""``edgecompress profile``: size, latency, memory and more of models, on every target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgecompress.cli._single import build, data_options
from edgecompress.cli._values import milliseconds, named_bounds, named_sizes, whole_numbers

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_MEASURING = (
    click.option("--target", "targets", multiple=True, metavar="TARGET",
                 help="Where to measure (repeatable): a name of the fleet, or a URL that "
                 "`targets list` shows; this machine when left out."),
    click.option("--targets", "fleet", type=_FILE,
                 help="File that names targets; else the targets.yaml that is found."),
    click.option("--threads", metavar="N,N", callback=whole_numbers(1),
                 help="Threads to measure with, one after the other; the first count most."),
    click.option("--affinity", metavar="N,N", callback=whole_numbers(0),
                 help="Cores that the model is bound to."),
    click.option("--arena", type=click.Choice(["on", "off", "both"]), default=None,
                 help="Whether the runtime keeps freed memory; on when left out."),
    click.option("--batch", "batches", metavar="N,N", callback=whole_numbers(1),
                 help="Also measure the throughput of so many inputs at once."),
    click.option("--min-duration", metavar="TIME", callback=milliseconds,
                 help="Time at least so long, such as 10s."),
    click.option("--any-governor", is_flag=True,
                 help="Accept times under a frequency governor other than performance."),
    click.option("--operators", is_flag=True, help="Also say which operators took the time."),
    click.option("--size", "sizes", metavar="NAME=N", multiple=True, callback=named_sizes,
                 help="Size of an axis that the graph leaves open (repeatable), by its name there "
                 "or as input.axis."),
    click.option("--bound", "bounds", metavar="NAME=N", multiple=True, callback=named_bounds,
                 help="Values of an input lie from 0 to below N, or with LOW:HIGH from LOW on "
                 "(repeatable)."),
    click.option("--inputs", "file", type=_FILE, metavar="FILE.npz",
                 help="Feed these arrays, named as the inputs; 0/name, 1/name … for several "
                 "items."),
)  # fmt: skip


def _measuring_options(function: Any) -> Any:
    for option in reversed(_MEASURING):
        function = option(function)
    return function


@click.command(name="profile")
@click.argument("models", nargs=-1, required=True, metavar="MODEL…")
@_measuring_options
@click.option("--compare", is_flag=True, help="Interleave two models and give their ratio.")
@click.option("--teacher", default=None, help="Measure how much faster than this model's export.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
@data_options
def command(
    models: tuple[str, ...],
    compare: bool,
    teacher: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Measure each MODEL: a bundle, a candidate's directory or any ONNX file.

    \b
    edgecompress profile model.onnx --target pi4 --threads 1,4 --operators
    edgecompress profile bert.onnx --size sequence_length=128 --bound input_ids=30000
    edgecompress profile --compare before.onnx after.onnx --min-duration 10s
    """  # noqa: D301  (click's own sign for lines that stay)
    from edgecompress.api.progress import TerminalReporter
    from edgecompress.engine.single import profile_models

    if compare and len(models) != 2:
        raise click.UsageError(f"--compare takes two models, not {len(models)}")
    if compare and teacher:
        raise click.UsageError("--compare and --teacher both name what to compare with; give one")
    for model in models:
        _check_model(Path(model))
    options["recipe_settings"] = (*options["recipe_settings"], *_settings(options))
    recipes = [build(model, None, options, teacher) for model in models]
    with TerminalReporter() as reporter:
        found = profile_models(recipes, options["store"], reporter, compare=compare)
    return _show(models, found, compare, as_json)


def _check_model(model: Path) -> None:
    """See that a model is there, before anything is measured; hub ids are for other commands."""
    from edgecompress.errors import DataError
    from edgecompress.onnx_folders import onnx_model_at

    if not model.exists():
        raise DataError("there is no such model", file=model)
    known = ("candidate.json", "manifest.json", "config.json")
    if onnx_model_at(model) is not None:
        return
    if model.is_dir() and not any((model / name).is_file() for name in known):
        graphs = sorted(path.name for path in model.glob("*.onnx"))
        advice = f"; name {graphs[0]} in it" if graphs else ""
        raise DataError(f"neither a bundle nor a candidate's directory{advice}", file=model)


def _settings(options: dict[str, Any]) -> list[str]:
    """Turn what the options say into settings of the recipe."""
    from edgecompress.yamlfile import setting

    said: dict[str, Any] = {}
    if options["targets"]:
        said["targets"] = list(dict.fromkeys(options["targets"]))
    if options["fleet"]:
        said["fleet"] = str(options["fleet"].absolute())
    for name in ("threads", "affinity", "batches"):
        if options[name] is not None:
            said[f"profile.{name}"] = list(options[name])
    if options["arena"]:
        said["profile.arena"] = options["arena"]
    if options["min_duration"]:
        said["profile.min_duration_ms"] = options["min_duration"]
    for name in ("any_governor", "operators"):
        if options[name]:
            said[f"profile.{name}"] = True
    for name in ("sizes", "bounds"):
        if options[name]:
            said[f"profile.inputs.{name}"] = options[name]
    if options["file"]:
        said["profile.inputs.file"] = str(options["file"].absolute())
    return [setting(name, value) for name, value in said.items()]


def _show(models: tuple[str, ...], found: list[Any], compare: bool, as_json: bool) -> int:
    """Print what was measured; give the exit code."""
    from edgecompress.cli._output import say_error
    from edgecompress.cli._profile_table import print_profile, to_json_lines
    from edgecompress.engine.observation import failures
    from edgecompress.errors import EdgeCompressError, TargetError

    codes = [0]
    names = [" against ".join(reversed(models))] if compare else list(models)
    for index, (name, measured) in enumerate(zip(names, found, strict=True)):
        if index and not as_json:
            click.echo()
        if isinstance(measured, EdgeCompressError):
            say_error(f"{name}: {measured}")
            codes.append(measured.exit_code)
            continue
        if as_json:
            click.echo(to_json_lines(name, measured), nl=False)
        else:
            print_profile(name, measured, Path(models[0]).name if compare else None)
        if failures(measured):
            codes.append(TargetError.exit_code)
    return max(codes)
