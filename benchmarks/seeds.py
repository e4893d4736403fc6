"""A recipe under several seeds: per candidate the median of what was measured, and its spread.

Run ``python benchmarks/seeds.py RECIPE --model DIR --data DIR -o runs/seeds``.
Each seed is a whole run of its own (finished ones are taken from the store). What was chosen is
chosen on validation in each run; the table shows test. The interval is the paired bootstrap's of
the seed whose loss is the median one; minutes are those of the candidate's own stages.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import click

from edgecompress.api.progress import TerminalReporter
from edgecompress.engine.run import run
from edgecompress.results import Row, RunResult
from edgecompress.tasks import task
from edgecompress.values import find

COLUMNS = ("size", "compression", "speedup")


def cell(values: list[float], scale: float = 1.0, digits: int = 2) -> str:
    """Write median and spread: ``4.85 (4.80 to 4.91)``."""
    low, high = min(values) * scale, max(values) * scale
    middle = statistics.median(values) * scale
    if f"{low:.{digits}f}" == f"{high:.{digits}f}":
        return f"{middle:.{digits}f}"
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def read(row: Row, metric: str, split: str | None = None) -> float | None:
    """Give a sound value, or None."""
    found = find(row.measurements, metric, split=split)
    return None if found is None or found.invalid else found.value


def middle_interval(rows: Sequence[Row], metric: str) -> tuple[float, float]:
    """Give the interval of the row whose value on test is the median (the lower of two)."""
    found = [find(row.measurements, metric, split="test") for row in rows]
    sound = [m for m in found if m is not None and m.interval is not None]
    if not sound:
        return float("nan"), float("nan")
    middle = sorted(sound, key=lambda m: m.value)[(len(sound) - 1) // 2]
    return middle.interval or (float("nan"), float("nan"))


def table(results: list[RunResult]) -> str:
    """Draw the Markdown table of all candidates over all seeds."""
    primary = task(str(results[0].task)).metrics[0].name
    lines = [
        f"| candidate | MB | × smaller | × faster | {primary} on test | lost, points "
        "| 95 % interval | minutes | chosen |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in [row.name for row in results[0].rows if not row.error]:
        rows = [row for result in results for row in result.rows if row.name == name]
        found = {metric: [read(row, metric) for row in rows] for metric in COLUMNS}
        found |= {metric: [read(row, metric, "test") for row in rows]
                  for metric in (primary, f"{primary}_drop")}  # fmt: skip
        sound = {key: [v for v in values if v is not None] for key, values in found.items()}
        if not all(sound.values()):
            continue
        chosen = sum(result.winner == name for result in results)
        low, high = middle_interval(rows, f"{primary}_drop")
        minutes = [sum(step.seconds for step in row.steps) / 60 for row in rows]
        lines.append(
            f"| {name} | {cell(sound['size'], 1e-6)} | {cell(sound['compression'])} "
            f"| {cell(sound['speedup'])} | {cell(sound[primary], 100)} "
            f"| {cell(sound[f'{primary}_drop'], 100)} | {100 * low:.2f} to {100 * high:.2f} "
            f"| {cell(minutes, digits=1)} | {chosen or ''} |"
        )
    return "\n".join(lines)


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path, exists=True))
@click.option("--model", help="Directory or hub id of the teacher.")
@click.option("--data", help="Root of the data files.")
@click.option("--seeds", default="7,8,9", show_default=True)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def main(
    recipe: Path,
    model: str | None,
    data: str | None,
    seeds: str,
    settings: tuple[str, ...],
    output: Path,
) -> None:
    """Run RECIPE once per seed and print the medians."""
    given = [*settings]
    given += [f"teacher.model={model}"] if model else []
    given += [f"data.root={data}"] if data else []
    results = []
    for seed in seeds.split(","):
        with TerminalReporter() as reporter:
            results.append(
                run(recipe, output / seed, settings=[*given, f"seed={seed}"], reporter=reporter)
            )
    click.echo(f"median of {len(results)} seeds ({seeds}); in brackets the smallest and largest\n")
    click.echo(table(results))


if __name__ == "__main__":
    main()
