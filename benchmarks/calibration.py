"""What the choice and the number of calibration samples do to accuracy, for each calibrator.

Run ``python benchmarks/calibration.py --model DIR --data DIR``. The model is quantized by
`quantize.static`; samples come from the training files and accuracy is that of the validation
files. One calibration pass per choice and number serves all calibrators.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np
from bare import bare_context

from edgecompress.data.sample import stratified_sample
from edgecompress.engine.recipe import load_recipe
from edgecompress.models.inputs import encode_rows, typed_feed
from edgecompress.models.session import input_specs, open_session
from edgecompress.stages.export import Export
from edgecompress.stages.quantize.static import Static
from edgecompress.training.teacher import import_teacher
from edgecompress.values import Candidate, Example, OnnxModel

CHOICES = ("random", "length", "labels", "kcentre")
NUMBERS = (8, 16, 32, 64, 128, 256, 512)
METHODS = ("minmax", "average", "percentile", "entropy", "mse")


def accuracy(candidate: Candidate, examples: Sequence[Example]) -> float:
    """Give the task's own metric on `examples`, each answered alone."""
    rows = encode_rows(candidate, examples)
    if rows is None or not isinstance(candidate.model, OnnxModel):
        raise click.UsageError("the model has no task or no tokenizer")
    session = open_session(candidate.model)
    specs = input_specs(session)
    feeds = [typed_feed(rows, [row], specs) for row in range(len(rows))]
    logits = [session.run(None, feed)[0][0] for feed in feeds]
    answers = rows.task.decode(logits, rows)
    return rows.task.quality(answers, examples, candidate.labels)


def cell(lost: Sequence[float]) -> str:
    """Write the mean loss in points and, of several, the worst."""
    worst = f" (to {max(lost):.2f})" if len(lost) > 1 else ""
    return f"{np.mean(lost):.2f}{worst}"


def passes(
    folder: Path, choices: Sequence[str], numbers: Sequence[int], seeds: int
) -> Iterator[tuple[str, int, int, str]]:
    """Yield choice, number, seed and the definition's file of every pass."""
    for choice in choices:
        for number in numbers:
            for seed in range(seeds):
                file = folder / f"{choice}-{number}.yaml"
                file.write_text(f"name: x\nchoose: {choice}\nsamples: {number}\n", encoding="utf-8")
                yield choice, number, seed, str(file)


@click.command()
@click.option(
    "--recipe",
    type=click.Path(path_type=Path, exists=True),
    default=Path("models/masakhaner-minilm.yaml"),
    show_default=True,
    help="Where task and data files are taken from.",
)
@click.option("--model", required=True, help="Directory or hub id of the model.")
@click.option("--data", help="Root of the data files.")
@click.option("--sentences", default=0, help="Of the validation files, a sample; 0: all.")
@click.option("--choice", "choices", multiple=True, default=CHOICES, show_default=True)
@click.option("--samples", "numbers", multiple=True, type=int, default=NUMBERS, show_default=True)
@click.option("--method", "methods", multiple=True, default=METHODS, show_default=True)
@click.option("--seeds", default=3, show_default=True, help="Choices of each kind and number.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write every figure there.")
def main(
    recipe: Path,
    model: str,
    data: str | None,
    sentences: int,
    choices: tuple[str, ...],
    numbers: tuple[int, ...],
    methods: tuple[str, ...],
    seeds: int,
    output: Path | None,
) -> None:
    """Quantize with every choice, number and calibrator, and print the table."""
    settings = [f"teacher.model={model}"] + ([f"data.root={data}"] if data else [])
    found = load_recipe(recipe, settings)
    if found.data is None:
        raise click.UsageError("the recipe names no data")
    train, validation = found.data.read("train"), found.data.read("validation")
    if sentences:
        picks = stratified_sample(validation, sentences, seed=7)
        validation = tuple(validation[k] for k in picks)
    figures = []
    with tempfile.TemporaryDirectory(prefix="edgecompress-calibration-") as name:
        folder = Path(name)
        teacher = import_teacher(model, str(found.fields.task), None, folder / "teacher")
        plain = Export().apply(
            teacher, bare_context(folder / "fp32", train, cache=folder / "cache")
        )
        exact = accuracy(plain, validation)
        click.echo(f"fp32: {100 * exact:.2f} on {len(validation)} validation sentences\n")
        heads = ["choice", "samples", *methods]
        click.echo("| " + " | ".join(heads) + " |\n|---|" + "--:|" * (len(heads) - 1))
        lost: dict[tuple[str, int], dict[str, list[float]]] = {}
        for choice, number, seed, file in passes(folder, choices, numbers, seeds):
            row = lost.setdefault((choice, number), {method: [] for method in methods})
            for method in methods:
                place = folder / "made"
                stage = Static(calibration=file, method=method)
                made = stage.apply(
                    plain, bare_context(place, train, seed=seed, cache=folder / "cache")
                )
                row[method].append(100 * (exact - accuracy(made, validation)))
                shutil.rmtree(place)
                figures.append([choice, number, seed, method, row[method][-1]])
            if seed == seeds - 1:
                cells = [cell(row[m]) for m in methods]
                click.echo("| " + " | ".join([choice, str(number), *cells]) + " |")
    several = f": mean of {seeds} choices, and the worst of them" if seeds > 1 else ""
    click.echo(f"\npoints lost against fp32{several}")
    if output is not None:
        output.write_text(json.dumps({"fp32": exact, "lost": figures}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
