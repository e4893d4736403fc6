"""``edgecompress profile``: size, latency, memory and more of models, on every target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgecompress.cli._single import data_options, usage_errors
from edgecompress.cli._values import milliseconds, named_bounds, named_sizes, whole_numbers

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_MEASURING = (
    click.option("--target", multiple=True, metavar="TARGET",
                 help="Where to measure (repeatable): a name of the fleet, or a URL that "
                 "`targets list` shows; this machine when left out."),
    click.option("--targets", type=_FILE,
                 help="File that names targets; else the targets.yaml that is found."),
    click.option("--threads", metavar="N,N", callback=whole_numbers(1),
                 help="Threads to measure with, one after the other; the first count most."),
    click.option("--affinity", metavar="N,N", callback=whole_numbers(0),
                 help="Cores that the model is bound to."),
    click.option("--arena", type=click.Choice(["on", "off", "both"]), default=None,
                 help="Whether the runtime keeps freed memory; on when left out."),
    click.option("--batch", metavar="N,N", callback=whole_numbers(1),
                 help="Also measure the throughput of so many inputs at once."),
    click.option("--min-duration", "min_duration_ms", metavar="TIME", callback=milliseconds,
                 help="Time at least so long, such as 10s."),
    click.option("--any-governor", is_flag=True,
                 help="Accept times under a frequency governor other than performance."),
    click.option("--operators", is_flag=True, help="Also say which operators took the time."),
    click.option("--size", metavar="NAME=N", multiple=True, callback=named_sizes,
                 help="Size of an axis that the graph leaves open (repeatable), by its name there "
                 "or as input.axis."),
    click.option("--bound", metavar="NAME=N", multiple=True, callback=named_bounds,
                 help="Values of an input lie from 0 to below N, or with LOW:HIGH from LOW on "
                 "(repeatable)."),
    click.option("--inputs", type=_FILE, metavar="FILE.npz",
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
def command(as_json: bool, **options: Any) -> int:
    """Measure each MODEL: a bundle, a candidate's directory or any ONNX file.

    \b
    edgecompress profile model.onnx --target pi4 --threads 1,4 --operators
    edgecompress profile bert.onnx --size sequence_length=128 --bound input_ids=30000
    edgecompress profile --compare before.onnx after.onnx --min-duration 10s
    """  # noqa: D301  (click's own sign for lines that stay)
    from edgecompress.api.measuring import profile
    from edgecompress.cli._output import say_error
    from edgecompress.report.terminal import print_page

    for name in ("threads", "affinity", "batch"):
        options[name] = options[name] or ()
    with usage_errors():
        found = profile(**options)
    for index, one in enumerate(found.models):
        if index and not as_json:
            click.echo()
        if one.error is not None:
            say_error(f"{one.model}: {one.error}")
        elif as_json:
            click.echo(one.to_json_lines(), nl=False)
        else:
            print_page(one.page())
    return found.exit_code
