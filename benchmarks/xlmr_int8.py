"""Int8 schemes on an XLM-R of 111 million random weights: size, output error, speed.

Run ``python benchmarks/xlmr_int8.py``. The model of `xlmr_model` is exported once and quantized by
ONNX Runtime's own call, by `quantize.dynamic` and `quantize.static` with tables of 8 and of 4 bits,
and by Neural Compressor. Ranges come from made-up texts, errors from others of 32 and of 128
tokens; the error is the mean absolute difference from fp32 over the standard deviation of its
logits. All models are timed in one loop, inference by inference, one thread. It exits with 1 when
no scheme keeps all the limits, or a static one errs more than twice as much as dynamic int8.
``--folder`` keeps what was made, for the next run.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
from bare import bare_context
from xlmr_model import LABELS, PIECES, make_model, make_tokenizer, synthetic_texts

from edgecompress.stage import Transform, stage_class
from edgecompress.targets import open_target
from edgecompress.targets.base import Clock
from edgecompress.targets.inputs import InputSettings
from edgecompress.targets.machine import environment
from edgecompress.targets.measure import time_candidates, time_interleaved
from edgecompress.targets.size import model_files
from edgecompress.texts import words_example, words_of
from edgecompress.values import Candidate, Measurement, OnnxModel, find

LENGTHS = (32, 128)
MOST_BYTES = 90e6
LEAST_SPEEDUP = 3.2
MOST_ERROR = 2.0
STOCK, DYNAMIC = "fp32, stock export", "onnxruntime.quantize_dynamic, per channel"
AVERAGE = {"method": "average"}
CHAINS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "fp32, fuse": [("fuse", {})],
    "quantize.dynamic": [("fuse", {}), ("quantize.dynamic", {})],
    "quantize.dynamic, 4-bit table": [("fuse", {}), ("quantize.dynamic", {"embedding_bits": 4})],
    "quantize.static": [("fuse", {}), ("quantize.static", AVERAGE), ("tune.graph", {})],
    "quantize.static, 4-bit table": [
        ("fuse", {}),
        ("quantize.static", {**AVERAGE, "embedding_bits": 4}),
        ("tune.graph", {}),
    ],
    "quantize.inc_static": [("quantize.inc_static", {}), ("fuse", {}), ("tune.graph", {})],
}
TORCH_CHAINS = ("quantize.inc_static",)
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm")


@dataclass
class Row:
    """A scheme, its model and what was found out about it."""

    title: str
    candidate: Candidate
    error: float = 0.0
    speed: tuple[tuple[Measurement | None, Measurement | None], ...] = ()

    @property
    def bytes(self) -> int:
        """Size of the model's files."""
        return sum(file.stat().st_size for file in model_files(self.candidate.model))


class Workshop:
    """Makes the models, each in a folder that the next run finds again."""

    def __init__(self, folder: Path, samples: int) -> None:
        self.folder, self.samples = folder, samples
        texts = synthetic_texts(4000)
        if not (folder / "preprocessor").is_dir():
            make_tokenizer(texts, folder / "preprocessor")
        examples = [words_example(words=tuple(text.split())) for text in texts]
        self.train, self.validation = examples[:2000], examples[2000:2200]
        self.held_out = examples[3000:]

    def teacher(self) -> Candidate:
        """Give the PyTorch model."""
        place = self.folder / "torch"
        if not (place / "candidate.json").is_file():
            shutil.rmtree(place, ignore_errors=True)
            model = make_model(place / "model")
            shutil.copytree(self.folder / "preprocessor", place / "preprocessor")
            Candidate(model, place / "preprocessor", "token-classification", LABELS).save(place)
        return Candidate.load(place)

    def apply(self, name: str, fields: dict[str, Any], start: Candidate, place: str) -> Candidate:
        """Apply a stage, or give what it made before."""
        folder = self.folder / place
        if not (folder / "candidate.json").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            sampled = "samples" in stage_class(name).model_fields
            stage = stage_class(name)(**fields, **({"samples": self.samples} if sampled else {}))
            context = bare_context(
                folder, self.train, self.validation, seed=7, cache=self.folder / "cache"
            )
            timed = partial(
                time_interleaved, examples=self.validation, min_duration_ms=1000, min_count=60
            )
            click.echo(f"{place}", err=True)
            made = cast(Transform, stage).apply(start, replace(context, measure=timed))
            self.keep(replace(made, preprocessor=start.preprocessor), folder)
        return Candidate.load(folder)

    def keep(self, made: Candidate, folder: Path) -> None:
        """Write down what was made, last, so that a folder with this file is whole."""
        target = folder / "preprocessor"
        if not target.is_dir():
            shutil.copytree(self.folder / "preprocessor", target)
        replace(made, preprocessor=target).save(folder)

    def plain_dynamic(self, plain: Candidate) -> Candidate:
        """Quantize as most people do: one call, weights per channel."""
        from onnxruntime.quantization import quantize_dynamic

        folder = self.folder / "ort-dynamic"
        model = OnnxModel(folder / "model" / "model.onnx")
        if not (folder / "candidate.json").is_file():
            model.directory.mkdir(parents=True, exist_ok=True)
            quantize_dynamic(cast(OnnxModel, plain.model).path, model.path, per_channel=True)
            self.keep(replace(plain, model=model, steps=()), folder)
        return Candidate.load(folder)

    def rows(self) -> list[Row]:
        """Make all models of the table."""
        teacher = self.teacher()
        plain = self.apply("export", {}, teacher, "export")
        found = [Row(STOCK, plain), Row(DYNAMIC, self.plain_dynamic(plain))]
        for title, chain in CHAINS.items():
            made, place = (teacher, "") if title in TORCH_CHAINS else (plain, "")
            for name, fields in chain:
                place = "-".join(filter(None, (place, name, *map(str, fields.values()))))
                made = self.apply(name, fields, made, place)
            found.append(Row(title, made))
        return found

    def feeds(self, length: int, count: int) -> list[dict[str, np.ndarray[Any, Any]]]:
        """Cut held-out text into rows of `length` tokens: int64, shape (1, length)."""
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.folder / "preprocessor" / "tokenizer.json"))
        ids: list[int] = []
        for example in self.held_out:
            ids += tokenizer.encode(" ".join(words_of(example)), add_special_tokens=False).ids
        rows = [ids[k * length : (k + 1) * length - 2] for k in range(count)]
        first, last = (tokenizer.token_to_id(token) for token in ("<s>", "</s>"))
        return [
            {
                "input_ids": np.array([[first, *row, last]], np.int64),
                "attention_mask": np.ones((1, length), np.int64),
            }
            for row in rows
        ]


def measure_errors(rows: Sequence[Row], feeds: Sequence[dict[str, np.ndarray[Any, Any]]]) -> None:
    """Compare each model's logits with those of the first."""
    from edgecompress.models.session import open_session

    truth: np.ndarray[Any, Any] | None = None
    for row in rows:
        session = open_session(cast(OnnxModel, row.candidate.model))
        logits = np.concatenate([session.run(None, feed)[0].ravel() for feed in feeds])
        truth = logits if truth is None else truth
        row.error = float(np.abs(logits - truth).mean() / truth.std())


def measure_speed(rows: Sequence[Row], workshop: Workshop, seconds: float) -> None:
    """Time all models interleaved on the same rows, once for each length."""
    clock = Clock(min_duration_ms=seconds * 1e3, min_count=40, max_duration_ms=seconds * 4e3)
    for length in LENGTHS:
        file = workshop.folder / f"inputs-{length}.npz"
        feeds = workshop.feeds(length, 16)
        arrays = {
            f"{k}/{name}": each for k, feed in enumerate(feeds) for name, each in feed.items()
        }
        np.savez(file, **cast(Any, arrays))
        candidates = [row.candidate for row in rows]
        timed = time_candidates(
            candidates, (), clock, open_target("local"), inputs=InputSettings(file=file), attempts=1
        )
        for index, row in enumerate(rows):
            pair = (
                find(timed.latencies(index), "latency_p50"),
                timed.speedup(0, index, STOCK),
            )
            row.speed = (*row.speed, pair)


def table(rows: Sequence[Row], dynamic_error: float) -> str:
    """Draw the Markdown table."""
    heads = ["scheme", "MB", "smaller", "error", "of dynamic's"]
    heads += [head for n in LENGTHS for head in (f"ms, {n} tokens", f"faster, {n} tokens")]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "--:|" * (len(heads) - 1)]
    for row in rows:
        cells = [row.title, f"{row.bytes / 1e6:.1f}", f"{rows[0].bytes / row.bytes:.2f}×"]
        cells += [f"{row.error:.4f}", f"{row.error / dynamic_error:.2f}×"]
        for latency, speedup in row.speed:
            cells += [f"{latency.value:.2f}" if latency else "", ratio(speedup)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratio(speedup: Measurement | None) -> str:
    """Give a speedup with its interval, struck out where it must not be trusted."""
    if speedup is None:
        return ""
    low, high = speedup.interval or (speedup.value, speedup.value)
    text = f"{speedup.value:.2f}× ({low:.2f}–{high:.2f})"
    return f"~~{text}~~ {speedup.invalid}" if speedup.invalid else text


def kept(row: Row, dynamic_error: float) -> bool:
    """Whether a scheme is within all limits."""
    fast = all(s and not s.invalid and s.value >= LEAST_SPEEDUP for _, s in row.speed)
    return fast and row.bytes <= MOST_BYTES and row.error <= MOST_ERROR * dynamic_error


@click.command()
@click.option("--samples", default=64, show_default=True, help="Texts that ranges come from.")
@click.option("--rows", "count", default=16, show_default=True, help="Of each length, for errors.")
@click.option("--seconds", default=30.0, show_default=True, help="Of each timing loop.")
@click.option("--only", multiple=True, help="Titles of schemes to show beside the two references.")
@click.option("--folder", type=click.Path(path_type=Path), help="Keep what is made here.")
def main(
    samples: int, count: int, seconds: float, only: tuple[str, ...], folder: Path | None
) -> None:
    """Quantize in every way, print the table and say what keeps the limits."""
    for title in [title for title in CHAINS if only and title not in only]:
        del CHAINS[title]
    with tempfile.TemporaryDirectory(prefix="edgecompress-xlmr-") as name:
        workshop = Workshop(folder or Path(name), samples)
        rows = workshop.rows()
        measure_errors(rows, [feed for n in LENGTHS for feed in workshop.feeds(n, count)])
        measure_speed(rows, workshop, seconds)
    facts = environment()
    flags = [flag for flag in FLAGS if flag in facts.get("flags", [])]
    dynamic_error = rows[1].error
    within = [row.title for row in rows[2:] if kept(row, dynamic_error)]
    far = [
        row.title
        for row in rows
        if "static" in row.title and row.error > MOST_ERROR * dynamic_error
    ]
    click.echo(f"{PIECES} pieces, 8 layers, hidden 768; {facts.get('cpu')}: {' '.join(flags)}\n")
    click.echo(table(rows, dynamic_error))
    click.echo(
        f"\nat most {MOST_BYTES / 1e6:.0f} MB, {MOST_ERROR:g}× the error of dynamic int8, at least "
        f"{LEAST_SPEEDUP}× faster at each length: {', '.join(within) or 'none'}"
    )
    click.echo(f"static beyond {MOST_ERROR:g}× the error: {', '.join(far) or 'none'}")
    sys.exit(0 if within and not far else 1)


if __name__ == "__main__":
    main()
