"""``edgecompress targets``: what the targets are, what they lack, and setting them up."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecompress.cli._output import say, say_error
from edgecompress.words import printable

if TYPE_CHECKING:
    from edgecompress.targets import TargetReport, TargetSpec
    from edgecompress.targets.fleet import Fleet

_FLEET = click.option(
    "--targets",
    "file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File that names targets; else the targets.yaml of this folder or of your configuration.",
)
_NAMES = click.argument("names", nargs=-1, required=True, metavar="NAME…")


@click.group(name="targets")
def command() -> None:
    """Look at targets, set them up, and clean them.

    NAME is a name of the fleet file (targets.yaml), or a URL; `list` shows what URLs there are.
    """


@command.command(name="list")
@_FLEET
def list_targets(file: Path | None) -> None:
    """List the fleet and what each target can measure; nothing is connected to."""
    from edgecompress.targets.named import named_specs, read_fleet
    from edgecompress.targets.spec import can_measure

    fleet = read_fleet(file)
    lines = []
    for spec in named_specs(fleet, ()) if fleet.targets else ():
        target = spec.open()
        sample = f"; asked {target.samples} examples" if target.samples else ""
        lines.append((spec.name, spec.url, ", ".join(can_measure(target)) + sample))
    _say_fleet(fleet, lines)


@command.command(name="check")
@click.argument("names", nargs=-1, metavar="[NAME…]")
@_FLEET
@click.pass_context
def check(context: click.Context, names: tuple[str, ...], file: Path | None) -> None:
    """Connect to each NAME (else the whole fleet): what it is, and what is missing.

    Exit code 1 when something is missing or a target cannot be reached.
    """
    from concurrent.futures import ThreadPoolExecutor

    from edgecompress.targets.named import named_specs, read_fleet

    specs = named_specs(read_fleet(file), names)
    with ThreadPoolExecutor(len(specs), thread_name_prefix="check") as pool:
        found = []
        for index, report in enumerate(pool.map(_look, specs)):
            if index:
                say()
            _say_report(report)
            found.append(report)
    context.exit(0 if all(report.ready for report in found) else 1)


@command.command(name="prepare")
@_NAMES
@_FLEET
@click.pass_context
def prepare(context: click.Context, names: tuple[str, ...], file: Path | None) -> None:
    """Set each NAME up: a board's virtual environment, or an emulated processor.

    What is there already is kept. A board needs no network: wheels are carried over to it.
    """
    from edgecompress.api.progress import TerminalReporter
    from edgecompress.errors import EdgeCompressError
    from edgecompress.targets.named import named_specs, read_fleet

    specs = named_specs(read_fleet(file), names)
    with TerminalReporter() as reporter:

        def work(spec: TargetSpec) -> str:
            step = ""

            def tell(done: float, total: float, what: str) -> None:
                nonlocal step
                text = what.removeprefix(f"preparing {spec.url}: ")
                if text != step:  # a line per finished step, so that a log shows them too
                    if step:
                        reporter.end("done")
                    reporter.begin(f"{spec.name}: {text}")
                    step = text
                reporter.advance(done, total, "")

            try:
                said = spec.prepare(tell)
            except EdgeCompressError:
                if step:
                    reporter.end("failed")
                raise
            if step:
                reporter.end("done")
            return said

        found = [_done(spec, functools.partial(work, spec)) for spec in specs]
    context.exit(_say(found))


@command.command(name="clean")
@_NAMES
@_FLEET
@click.pass_context
def clean(context: click.Context, names: tuple[str, ...], file: Path | None) -> None:
    """Remove what was left on each NAME, and say how much that was."""
    from edgecompress.targets.named import named_specs, read_fleet

    specs = named_specs(read_fleet(file), names)
    context.exit(_say([_done(spec, spec.clean) for spec in specs]))


def _look(spec: TargetSpec) -> TargetReport:
    """Connect to a target and see what it is and lacks; errors are part of the answer."""
    from edgecompress.errors import EdgeCompressError
    from edgecompress.targets import TargetReport

    try:
        return spec.check()
    except EdgeCompressError as error:
        return TargetReport(spec, error=error)


def _done(spec: TargetSpec, work: Callable[[], str]) -> tuple[str, int]:
    """Do `work` for one target; a failure stops no other. Give what to say, and the exit code."""
    from edgecompress.errors import EdgeCompressError

    try:
        return f"{spec.name}: {work()}", 0
    except EdgeCompressError as error:
        text = str(error)
        return text if text.startswith(spec.name) else f"{spec.name}: {text}", error.exit_code


def _say(found: list[tuple[str, int]]) -> int:
    """Print what became of each target, what failed on standard error; give the exit code."""
    for text, code in found:
        if code:
            say_error(text)
        else:
            click.echo(printable(text))
    return max(code for _, code in found)


def _say_fleet(fleet: Fleet, lines: list[tuple[str, str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from edgecompress.targets.kinds import kinds

    console = Console(highlight=False)
    if fleet.file:
        console.print(Text(f"{fleet.file} names", style="bold"))
    else:
        console.print("There is no targets.yaml here or in your configuration.")
    if lines:
        grid = Table.grid(padding=(0, 2))
        for column in range(3):
            grid.add_column(overflow="fold", style="dim" if column == 1 else "")
        for line in lines:
            grid.add_row(*(Text(f"  {part}" if part is line[0] else part) for part in line))
        console.print(grid)
    console.print(Text("\nWithout a name", style="bold"))
    for kind in kinds().values():
        for url, title in kind.urls().items():
            console.print(Text(f"  {url:24} {title}"))


def _say_report(report: TargetReport) -> None:
    """Print what a target is, and what it lacks."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)

    def say(text: str, indent: int = 4, style: str = "") -> None:
        if text:
            console.print(Padding(Text(text, style=style), (0, 0, 0, indent), expand=False))

    name = report.spec.name
    console.print(
        Text.assemble((name, "bold"), f"  {report.spec.url}" if report.spec.url != name else "")
    )
    if report.error is not None:
        say(f"✗ {str(report.error).removeprefix(f'{name}: ')}", 2, "red")
        return
    for line in _facts(report):
        say(line)
    say(f"can measure {', '.join(report.can)}" if report.can else "")
    for finding in report.findings:
        good = finding.level == "note"
        say(f"{'!' if good else '✗'} {finding.what}", 2, "yellow" if good else "red")
        say(finding.advice, 4)
    if report.ready:
        say("✓ ready", 2, "green")


def _facts(report: TargetReport) -> list[str]:
    """Lay out a description in a few lines."""
    from edgecompress.report.places import title

    known = report.facts or {}
    lines = [title(known)]
    parts = [
        known.get("machine"),
        f"{known['cores']} core{'s' * (known['cores'] != 1)}" if known.get("cores") else None,
        " ".join(known.get("isa") or ()),
        f"{known['memory_bytes'] / 1e9:.1f} GB memory" if known.get("memory_bytes") else None,
    ]
    lines.append(" · ".join(part for part in parts if part))
    bits = f"{known['bits']}-bit" if known.get("bits") else None
    kernel = f"kernel {known['kernel']}" if known.get("kernel") else None
    parts = [known.get("system"), kernel, known.get("libc"), bits]
    lines.append(" · ".join(part for part in parts if part))
    libraries = known.get("libraries") or {}
    shown = [f"{name} {libraries[name]}" for name in ("onnxruntime", "numpy", "tokenizers")
             if name in libraries]  # fmt: skip
    python = f"Python {known['python']}" if known.get("python") else None
    lines.append(" · ".join(part for part in [python, *shown] if part))
    governor = f"governor {known['governor']}" if known.get("governor") else None
    meters = f"energy meters: {', '.join(known['meters'])}" if known.get("meters") else None
    lines.append(" · ".join(part for part in [governor, meters] if part))
    return [line for line in lines if line]
