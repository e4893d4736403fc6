"""``edgecompress reproduce``: make a bundle again from nothing, and compare it with the first."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecompress.cli._output import say, say_json

if TYPE_CHECKING:
    from edgecompress.cli._diff_words import Section
    from edgecompress.engine.reproduce import Reproduction
    from edgecompress.quantization.graphs.differences import ModelDifferences

MOST_TENSORS = 12
"""Weights that are listed; ``--json`` has them all."""


@click.command(name="reproduce")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--data-root",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the data's files; the working directory when left out.",
)
@click.option("--teacher", help="Where the teacher lies now: a directory, or a hub id.")
@click.option("--model", help="Where the model that the chains start from lies now, if any did.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set any field of the recorded recipe (repeatable), such as "
    "stages.quantize.static.calibration=FILE.",
)
@click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    help="A new folder that keeps what is made, so that the same command goes on after an "
    "interruption; a temporary one when left out.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the bundle that is made, in this directory.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="How many threads PyTorch trains with; as many as then, where that is recorded.",
)
@click.option("--yes", is_flag=True, help="Fetch the hub's models that the bundle names.")
@click.option("--json", "as_json", is_flag=True, help="Write everything as one JSON document.")
def command(
    bundle: Path,
    data_root: Path | None,
    teacher: str | None,
    model: str | None,
    settings: tuple[str, ...],
    store: Path | None,
    output: Path | None,
    threads: int | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Make BUNDLE again by its own recipe in a clean store, and compare the two.

    What stages decided by measuring is decided as it was; nothing is timed. Data, teacher and
    calibration sets must be those that the bundle was made from: their digests are compared first.
    A model that the bundle names by the id of a hub is fetched only when you agree to it.
    The cores are compared byte by byte; where they differ, also by sizes, weights, and the accuracy
    on validation and test.

    Exit code 0: not a byte of the core differs; 1: something does.
    """
    from edgecompress.api.progress import TerminalReporter
    from edgecompress.engine.reproduce import reproduce
    from edgecompress.engine.same_inputs import Inputs

    with TerminalReporter() as reporter:
        found = reproduce(
            bundle,
            Inputs(data_root, teacher, model, settings),
            store=store,
            output=output,
            threads=threads,
            reporter=reporter,
            fetch=lambda names: yes or _agreed(names),
        )
    if as_json:
        say_json(json.dumps(found.to_json(), indent=1, ensure_ascii=False))
    else:
        _show(found)
    click.get_current_context().exit(0 if found.equal else 1)


def _agreed(names: Sequence[str]) -> bool:
    """Ask a person at a terminal; nobody else can agree."""
    if not sys.stdin.isatty():
        return False
    asked = (
        f"The bundle names {' and '.join(map(repr, names))}: fetch it from the Hugging Face hub?"
    )
    return click.confirm(asked, err=True)


def _show(found: Reproduction) -> None:
    from edgecompress.cli._diff import _print as print_sections
    from edgecompress.cli._diff_words import Section, sections

    for note in found.notes:
        say(f"note: {note}")
    if found.equal:
        say(f"the same bytes: all {len(found.unchanged)} files of the core")
        return
    total = len(found.unchanged) + len(found.differences.files)
    say(f"different: {len(found.unchanged)} of {total} files of the core are the same")
    parts = list(sections(found.differences))
    if found.model is not None:
        parts += _model(found.model)
    if found.scores:
        lines = tuple(
            (
                score.split,
                score.metric,
                f"{score.old:.4f}",
                f"{score.new:.4f}",
                f"{score.new - score.old:+.4f}",
                f"{score.flipped} of {score.asked}",
            )
            for score in found.scores
        )
        heads = ("split", "metric", "recorded", "made again", "difference", "answers that differ")
        parts.append(Section("Accuracy", heads, lines, right=2))
    print_sections(parts)


def _model(found: ModelDifferences) -> Iterator[Section]:
    from edgecompress.cli._diff_words import Section

    shown = found.tensors[:MOST_TENSORS]
    lines = tuple(
        (
            one.name,
            one.old or "none",
            "" if one.differing is None else f"{one.differing:.1%}",
            "" if one.largest is None else f"{one.largest:.3g}",
            "" if one.scale is None else f"{one.scale:.3g}",
        )
        if one.old == one.new
        else (one.name, one.old or "none", f"now {one.new or 'none'}", "", "")
        for one in shown
    )
    notes = [] if found.same_graph else ["The graphs differ in operators or wiring."]
    notes += [f"{name}: {old} → {new}" for name, (old, new) in found.operators.items()]
    if len(found.tensors) > len(shown):
        notes.append(f"… and {len(found.tensors) - len(shown)} more; --json has them all")
    title = f"Weights: {len(found.tensors)} differ, {found.compared} are in both"
    heads = ("weight", "type", "values that differ", "largest difference", "largest value")
    yield Section(title, heads if lines else (), lines, tuple(notes), right=2)
