"""Time and memory to trim, prune and export an XLM-R of 8 layers and 111 million parameters.

Run ``python benchmarks/xlmr_shape.py`` (or with ``--data FILE``, plain text, one text a line): it
makes the model with random weights (768 wide, 6 heads, 3072 neurons, 70,006 pieces of a Unigram
tokenizer that it trains), then applies the stages `vocabulary.trim`, `prune.structured` and
`export` one after the other in this process, and prints how long each took and how much memory the
process had held by then. It exits with 1 when that is more than five minutes or 6 GB.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import click
from bare import bare_context
from xlmr_model import LABELS, make_model, make_tokenizer, synthetic_texts

from edgecompress.texts import words_example
from edgecompress.values import Candidate

MOST_SECONDS = 300.0
MOST_BYTES = 6_000_000_000


def peak_bytes() -> int:
    """Peak resident memory of this process since it began (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="Plain text to use.")
@click.option("--keep", default=30_000, show_default=True, help="Pieces that trimming keeps.")
@click.option("--heads", default=0.25, show_default=True, help="Share of heads to remove.")
@click.option("--ffn", default=0.5, show_default=True, help="Share of neurons to remove.")
@click.option("--samples", default=512, show_default=True, help="Texts to calibrate on.")
def main(data: Path | None, keep: int, heads: float, ffn: float, samples: int) -> None:
    """Print a Markdown table of seconds and peak memory by step."""
    from edgecompress.stage import Transform, stage_class

    with tempfile.TemporaryDirectory(prefix="edgecompress-") as name:
        folder = Path(name)
        texts = synthetic_texts(4000)
        if data is not None:
            texts = [line for line in data.read_text(encoding="utf-8").splitlines() if line.strip()]
        make_tokenizer(texts, folder / "preprocessor")
        model = make_model(folder / "model")
        examples = tuple(words_example(words=tuple(text.split())) for text in texts)
        task = "token-classification"
        candidate = Candidate(model, folder / "preprocessor", task, LABELS)
        click.echo("| step | seconds | processor seconds | peak memory so far | weights |")
        click.echo("|---|---:|---:|---:|---:|")
        steps: dict[str, dict[str, Any]] = {
            "vocabulary.trim": {"keep": keep},
            "prune.structured": {"heads": heads, "ffn": ffn, "samples": samples},
            "export": {},
        }
        total = used = 0.0
        click.echo(f"| made | | | {peak_bytes() / 1e9:.2f} GB | {_megabytes(candidate):.0f} MB |")
        for index, (step, fields) in enumerate(steps.items()):
            start, before = time.perf_counter(), time.process_time()
            stage = cast(Transform, stage_class(step)(**fields))
            candidate = stage.apply(
                candidate, bare_context(folder / str(index), examples, examples[:64])
            )
            took, cpu = time.perf_counter() - start, time.process_time() - before
            total, used = total + took, used + cpu
            click.echo(
                f"| {step} | {took:.1f} | {cpu:.1f} | {peak_bytes() / 1e9:.2f} GB | "
                f"{_megabytes(candidate):.0f} MB |"
            )
        peak = peak_bytes()
        click.echo(f"| together | {total:.1f} | {used:.1f} | {peak / 1e9:.2f} GB | |")
        sys.exit(0 if total <= MOST_SECONDS and peak <= MOST_BYTES else 1)


def _megabytes(candidate: Candidate) -> float:
    files = [path for path in candidate.model.directory.iterdir() if path.is_file()]
    return sum(path.stat().st_size for path in files) / 1e6


if __name__ == "__main__":
    main()
