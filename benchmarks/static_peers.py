"""Static embeddings beside sentence encoders on STS-B: what a user may take in an encoder's place.

    python benchmarks/static_peers.py --model DIR --data STSB --ours BUNDLE --ours BUNDLE ...

`--model` is a sentence-transformers folder. model2vec makes a static model of it, which needs no
text: the encoder's vector for each piece of the vocabulary alone, by principal components in 256 or
all channels, weighted by rank; a text's vector is their mean. The first of the bundles is what the
others are held against (the plain export, say). Every model answers both texts of each test pair,
then 40 of these texts in turns on one thread, from text to vector, with its own tokenizer.
Intervals: paired bootstrap over pairs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from embeddings import PAIR, read
from turns import in_turns

from edgecompress.bundle import load_bundle
from edgecompress.runtime import load
from edgecompress.targets.agent.kernel import cpuinfo
from edgecompress.targets.size import model_files
from edgecompress.tasks import Answers, task
from edgecompress.tasks._similarity import cosine
from edgecompress.tasks.compare import paired_bootstrap_drop
from edgecompress.values import Example, OnnxModel

TIMED, MB = 40, 1e6
KIND = task("feature-extraction")
Embed = Callable[[str], np.ndarray]
HEADS = ("model", "Spearman", "points lost (95 %)", "MB", "smaller", "ms, text to vector",
         "faster (95 %)")  # fmt: skip


@dataclass
class Row:
    """A model, what it says of the test pairs, and its times."""

    title: str
    size: int
    embed: Embed
    said: Answers
    times: tuple[str, str] = ("", "")


def bundle(folder: Path) -> tuple[str, int, Embed]:
    """Open one of ours."""
    model = load_bundle(folder).model
    assert isinstance(model, OnnxModel)
    size = sum(file.stat().st_size for file in model_files(model))
    predictor = load(folder, threads=1)

    def embed(text: str) -> np.ndarray:
        vector = predictor.predict(text).vector
        assert vector is not None
        return vector

    return f"edgecompress, {folder.parent.name}", size, embed


def static(model: Path, width: int | None, dtype: str, folder: Path) -> tuple[str, int, Embed]:
    """Make a static model as model2vec does by itself."""
    from model2vec.distill import distill_from_model
    from transformers import AutoModel, AutoTokenizer

    made = distill_from_model(
        AutoModel.from_pretrained(model), AutoTokenizer.from_pretrained(model),
        device="cpu", pca_dims=width, quantize_to=dtype,
    )  # fmt: skip
    made.save_pretrained(folder)
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    title = f"model2vec, {made.dim} channels in {dtype}"
    return title, size, lambda text: made.encode([text], use_multiprocessing=False)[0]


def similarities(embed: Embed, pairs: Sequence[Example]) -> Answers:
    """Give what a model says of each pair: the cosine of its two vectors."""
    said = [cosine(*(embed(str(pair.inputs[key])) for key in PAIR)) for pair in pairs]
    nothing = ((),) * len(said), (np.zeros(0),) * len(said)
    return Answers(*nothing, tuple({"similarity": one} for one in said))


def race(rows: Sequence[Row], texts: Sequence[str], seconds: float) -> None:
    """Time all models in turns."""

    def asks(row: Row) -> Callable[[int], object]:
        return lambda number: row.embed(texts[number])

    found = in_turns([asks(row) for row in rows], len(texts), seconds)
    for row, times in zip(rows, found, strict=True):
        row.times = times


@click.command()
@click.option("--model", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--ours", type=click.Path(exists=True, path_type=Path), multiple=True, required=True)
@click.option("--seconds", default=20.0, show_default=True, help="Of timing.")
def main(model: Path, data: Path, ours: tuple[Path, ...], seconds: float) -> None:
    """Ask, time, and print a table."""
    written = read(data / "sts-test.csv")
    pairs = [Example({key: row[key] for key in PAIR}, row["score"]) for row in written]
    with tempfile.TemporaryDirectory() as name:
        found = [bundle(folder) for folder in ours]
        for width, dtype in ((None, "float16"), (256, "float16"), (256, "int8")):
            found.append(static(model, width, dtype, Path(name) / f"{width}-{dtype}"))
        rows = [Row(*one, similarities(one[2], pairs)) for one in found]
        texts = [str(pair.inputs[PAIR[0]]) for pair in pairs[:: len(pairs) // TIMED][:TIMED]]
        race(rows, texts, seconds)
    click.echo(f"{cpuinfo().get('model name', '')}, {len(pairs)} pairs of test\n")
    click.echo(f"| {' | '.join(HEADS)} |\n|---|{'--:|' * (len(HEADS) - 1)}")
    for row in rows:
        lost = paired_bootstrap_drop(KIND.metrics[0], rows[0].said, row.said, pairs, 0)
        drop, low, high = (100 * each for each in lost)
        cells = (
            row.title, f"{100 * KIND.quality(row.said, pairs, ()):.2f}",
            f"{drop:.2f} ({low:.2f} to {high:.2f})",
            f"{row.size / MB:.1f}", f"{rows[0].size / row.size:.2f}×", *row.times,
        )  # fmt: skip
        click.echo(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
