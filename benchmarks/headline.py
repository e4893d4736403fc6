"""The README's table of headline figures, written from the results of runs.

    python benchmarks/headline.py runs/quickstart runs/int8 runs/small --into README.md

Each folder is what ``edgecompress run`` wrote; its row is what was chosen there. Without ``--into``
the table is printed; with it, what stands between the marks ``headline: begin`` and ``headline:
end`` of that page is replaced. The last column is the language that lost most against the teacher,
by the first metric that the task has for a part of the data.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import click

from edgecompress.report import words
from edgecompress.report.document import from_json
from edgecompress.report.facts import Facts, drop, gather, scored, size_ratio, speedup
from edgecompress.report.languages import Languages, languages
from edgecompress.results import Row, RunResult
from edgecompress.values import Measurement, find

HEAD = """\
|Recipe: what it chose|MB|ms|Score|vs teacher|Weakest language|
|:--|--:|--:|--:|--:|--:|"""  # without blanks, which would count as words
MARKED = r"(<!-- headline: begin -->\n).*?(<!-- headline: end -->)"
LIBRARIES = ("onnxruntime", "transformers")
ROOT = Path(__file__).parents[1]


def row_of(result: RunResult) -> str:
    """Draw what was chosen in a run as a line of the table."""
    facts = gather(result)
    chosen = facts.winner
    if chosen is None or facts.primary is None:
        raise click.ClickException(f"nothing was chosen in the run of {result.name}")
    name = f"models/{result.name}.yaml"
    linked = f"[{result.name}]({name})" if (ROOT / name).is_file() else result.name
    ratio = size_ratio(chosen, facts.reference)
    smaller = words.MISSING if ratio is None else f"{words.times(ratio)}×"
    faster = shown(speedup(chosen, facts.target), sign="×")
    stages = re.sub(r"\([^)]*\)", "", chosen.name).replace("+", ", ")
    cells = (
        f"{linked}: {stages}",
        f"{shown(find(chosen.measurements, 'size'))} ({smaller} smaller)",
        f"{shown(find(chosen.measurements, 'latency_p50', target=facts.target))} ({faster} faster)",
        f"{shown(scored(chosen, facts.primary, facts, facts.split))} {words.label(facts.primary)}",
        gained(drop(chosen, facts, facts.split)),
        weakest(chosen, facts, languages(result, chosen)),
    )
    return f"|{'|'.join(cells)}|"


def shown(found: Measurement | None, *, sign: str = "") -> str:
    """Write a number; one that does not hold says so."""
    if found is None:
        return words.MISSING
    doubt = ", not valid" if found.invalid else ""
    return f"{words.number(found.value, found.unit)}{sign}{doubt}"


def gained(lost: Measurement | None) -> str:
    """Write a loss as a difference in points, with its interval."""
    if lost is None:
        return words.MISSING
    value, span = words.turned(lost)
    return f"{value} ({span})" if span else value


def weakest(row: Row, facts: Facts, known: Languages) -> str:
    """Name the language that lost most against the teacher, with its score and the difference."""
    found: list[tuple[float, float, str]] = []
    if facts.teacher is None:
        return words.MISSING
    for one in row.measurements:
        name = (one.slice or "").removeprefix(known.prefix)
        if not known.by_slice or one.split != facts.split or name not in known.by_slice:
            continue
        if one.metric.endswith("_drop"):  # a difference itself, and the teacher's is 0
            continue
        theirs = scored(facts.teacher, one.metric, facts, facts.split, one.slice)
        if theirs is not None:
            found.append((one.value - theirs.value, one.value, known.by_slice[name].name))
    if not found:
        return words.MISSING
    lost, value, name = min(found)
    return f"{name} {words.number(value, 'fraction')} ({words.signed(lost, 'fraction')})"


def ground(results: list[RunResult]) -> str:
    """Say on what the runs were measured, and beside what; apart where they differ."""
    told: dict[str, list[str]] = defaultdict(list)
    for result in results:
        libraries = result.environment.get("libraries", {})
        versions = ", ".join(f"{name} {libraries.get(name)}" for name in LIBRARIES)
        sentence = (
            f"Measured on one thread of {result.environment.get('cpu')} "
            f"({', '.join(result.environment.get('isa', []))}) with {versions}, "
            f"beside the {gather(result).exported} fp32 export."
        )
        told[sentence].append(result.name)
    if len(told) == 1:
        return next(iter(told))
    return "\n\n".join(f"{', '.join(names)}: {sentence}" for sentence, names in told.items())


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--into", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(runs: tuple[Path, ...], into: Path | None) -> None:
    """Write the table of RUNS."""
    results = [from_json((run / "results.json").read_text(encoding="utf-8")) for run in runs]
    rows = "\n".join((HEAD, *(row_of(result) for result in results)))
    table = f"{rows}\n\n{ground(results)}"
    click.echo(table)
    if into is not None:
        text = into.read_text(encoding="utf-8")
        filled, number = re.subn(
            MARKED, lambda found: f"{found[1]}{table}\n{found[2]}", text, flags=re.DOTALL
        )
        if not number:
            raise click.ClickException(f"{into} has no marks «headline: begin» and «headline: end»")
        into.write_text(filled, encoding="utf-8")


if __name__ == "__main__":
    main()
