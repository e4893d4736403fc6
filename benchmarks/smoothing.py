"""What SmoothQuant does to each int8 scheme, and GPTQ to weights of 4 bits.

Run ``python benchmarks/smoothing.py --model DIR --data DIR``. Samples to calibrate with come from
the training files, accuracy and errors are those of the validation files.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from bare import bare_context

from edgecompress.data.sample import stratified_sample
from edgecompress.engine.recipe import load_recipe
from edgecompress.models.inputs import encode_rows, typed_feed
from edgecompress.models.session import input_specs, open_session
from edgecompress.stage import Transform
from edgecompress.stages.export import Export
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.stages.quantize.smooth import Smooth
from edgecompress.stages.quantize.static import Static
from edgecompress.stages.quantize.weights import Weights
from edgecompress.tasks import Rows
from edgecompress.training.teacher import import_teacher
from edgecompress.values import Candidate, Example, OnnxModel

ALPHAS = (0.3, 0.5, 0.7, 0.8, 0.9)
SCHEMES: dict[str, Transform] = {
    "dynamic": Dynamic(),
    **{
        f"static {method}": Static(method=method)
        for method in ("minmax", "average", "percentile", "entropy", "mse")
    },
}
WEIGHTS: dict[str, Transform] = {
    f"4 bits by {block}, {method}": Weights(
        method=method,
        linear_block=block,
        embeddings=False,
    )
    for block in (32, 128)
    for method in ("nearest", "search", "gptq")
}
PARTS = ("smoothing", "alpha", "weights")


class Judge:
    """Scores models on examples, each answered alone, beside the fp32 model's answers."""

    def __init__(self, plain: Candidate, examples: Sequence[Example]) -> None:
        found = encode_rows(plain, examples)
        if found is None:
            raise click.UsageError("the model has no task or no tokenizer")
        self.rows: Rows = found
        self.examples, self.labels = examples, plain.labels
        self.truth = self._logits(plain)

    def _logits(self, candidate: Candidate) -> list[np.ndarray]:
        assert isinstance(candidate.model, OnnxModel)
        session = open_session(candidate.model)
        specs, total = input_specs(session), len(self.rows.lengths)
        return [session.run(None, typed_feed(self.rows, [k], specs))[0][0] for k in range(total)]

    def cell(self, candidate: Candidate) -> str:
        """Give the task's metric in points and the mean squared error of the logits."""
        logits = self._logits(candidate)
        answers = self.rows.task.decode(logits, self.rows)
        value = self.rows.task.quality(answers, self.examples, self.labels)
        pairs = zip(logits, self.truth, strict=True)
        error = np.mean([np.square(one - other).mean() for one, other in pairs])
        return f"{100 * value:.2f} / {error:.4f}"


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
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), default=PARTS)
def main(
    recipe: Path, model: str, data: str | None, sentences: int, parts: tuple[str, ...]
) -> None:
    """Quantize with and without, and print tables of accuracy and squared error of the logits."""
    settings = [f"teacher.model={model}"] + ([f"data.root={data}"] if data else [])
    found = load_recipe(recipe, settings)
    if found.data is None:
        raise click.UsageError("the recipe names no data")
    train, validation = found.data.read("train"), found.data.read("validation")
    if sentences:
        picks = stratified_sample(validation, sentences, seed=7)
        validation = tuple(validation[k] for k in picks)
    with tempfile.TemporaryDirectory(prefix="edgecompress-smoothing-") as name:
        folder = Path(name)

        def apply(stage: Transform, start: Candidate, place: str) -> Candidate:
            shutil.rmtree(folder / place, ignore_errors=True)
            return stage.apply(start, bare_context(folder / place, train, cache=folder / "cache"))

        teacher = import_teacher(model, str(found.fields.task), None, folder / "teacher")
        plain = apply(Export(), teacher, "fp32")
        judge = Judge(plain, validation)
        click.echo(f"fp32: {judge.cell(plain)} on {len(validation)} validation sentences")
        if "weights" in parts:
            click.echo("\n| linear layers | metric / squared error |\n|---|--:|")
            for label, stage in WEIGHTS.items():
                click.echo(f"| {label} | {judge.cell(apply(stage, plain, 'made'))} |")
        if "smoothing" in parts:
            starts = {
                "as it is": plain,
                "smoothed, folded only": apply(Smooth(), plain, "folded"),
                "smoothed, multiply": apply(Smooth(multiply=True), plain, "multiplied"),
            }
            click.echo("\n| scheme | " + " | ".join(starts) + " |\n|---|" + "--:|" * len(starts))
            for label, stage in SCHEMES.items():
                cells = [judge.cell(apply(stage, start, "made")) for start in starts.values()]
                click.echo(f"| {label} | " + " | ".join(cells) + " |")
        if "alpha" in parts:
            click.echo("\n| alpha (multiply) | static minmax | dynamic |\n|---|--:|--:|")
            for alpha in (*ALPHAS, "auto"):
                smoothed = apply(Smooth(alpha=alpha, multiply=True), plain, "alpha")
                cells = [
                    judge.cell(apply(SCHEMES[scheme], smoothed, "made"))
                    for scheme in ("static minmax", "dynamic")
                ]
                click.echo(f"| {alpha} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
