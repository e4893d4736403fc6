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
from edgecompress.values import OnnxModel

DRAWS, TIMED, MB = 2000, 40, 1e6
Embed = Callable[[str], np.ndarray]
HEADS = ("model", "Spearman", "points lost (95 %)", "MB", "smaller", "ms, text to vector",
         "faster (95 %)")  # fmt: skip


@dataclass
class Row:
    """A model, what it says of the test pairs, and its times."""

    title: str
    size: int
    embed: Embed
    said: np.ndarray
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


def cosines(embed: Embed, pairs: Sequence[dict[str, object]]) -> np.ndarray:
    """Give the cosine of each pair."""
    first, second = (np.stack([embed(str(pair[key])) for pair in pairs]) for key in PAIR)
    long = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    found: np.ndarray = (first * second).sum(1) / np.maximum(long, 1e-12)
    return found


def spearman(said: np.ndarray, wanted: np.ndarray) -> float:
    """Give the correlation of ranks, with the mean rank for equal values."""
    from scipy.stats import spearmanr

    return 100 * float(spearmanr(said, wanted).statistic)


def lost(row: Row, first: Row, wanted: np.ndarray) -> tuple[float, float, float]:
    """Give the points lost against the first model, and the bounds of 95 % of the draws."""
    random = np.random.default_rng(0)
    drawn = random.integers(0, len(wanted), (DRAWS, len(wanted)))
    found = [spearman(first.said[d], wanted[d]) - spearman(row.said[d], wanted[d]) for d in drawn]
    low, high = np.quantile(found, (0.025, 0.975))
    return spearman(first.said, wanted) - spearman(row.said, wanted), float(low), float(high)


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
    pairs = read(data / "sts-test.csv")
    wanted = np.array([float(str(pair["score"])) for pair in pairs])
    with tempfile.TemporaryDirectory() as name:
        found = [bundle(folder) for folder in ours]
        for width, dtype in ((None, "float16"), (256, "float16"), (256, "int8")):
            found.append(static(model, width, dtype, Path(name) / f"{width}-{dtype}"))
        rows = [Row(*one, cosines(one[2], pairs)) for one in found]
        texts = [str(pair[PAIR[0]]) for pair in pairs[:: len(pairs) // TIMED][:TIMED]]
        race(rows, texts, seconds)
    click.echo(f"{cpuinfo().get('model name', '')}, {len(pairs)} pairs of test\n")
    click.echo(f"| {' | '.join(HEADS)} |\n|---|{'--:|' * (len(HEADS) - 1)}")
    for row in rows:
        drop, low, high = lost(row, rows[0], wanted)
        cells = (
            row.title, f"{spearman(row.said, wanted):.2f}", f"{drop:.2f} ({low:.2f} to {high:.2f})",
            f"{row.size / MB:.1f}", f"{rows[0].size / row.size:.2f}×", *row.times,
        )  # fmt: skip
        click.echo(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
