"""Whisper in few bits, ours beside fp32 and faster-whisper's int8: size, words wrong, speed.

    python benchmarks/speech.py --model DIR --data DIR [--calibrate DIR] [--peer DIR]
        [--made DIR --only judge|race]

`--model` is a folder in Hugging Face's form, `--data` holds ``transcripts.tsv`` (a file and its
words a line, without a head) and the sounds. `--peer` is a model in CTranslate2's form; it is asked
where `faster_whisper` is installed, greedily, with int8 weights, like ours. Nothing is calibrated
or chosen on these sounds: the recipes are given, and those with ranges take them from other sounds,
the files in `--calibrate`. Each model is asked about each whole sound, from
samples to text, all models in turns, on one thread; the real-time factor is the time over the
sound's own, beside the time of the processor. With `--made` the models are kept there, so that
`--only race` can time them by itself, on a machine that does nothing else. Words wrong are counted
after the normalizer plain-words and, where transformers is installed, after Whisper's own.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml

import edgecompress
from edgecompress.processors.sounds import read_sound, resampled
from edgecompress.tasks import task
from edgecompress.tasks._transcripts import WER, edits
from edgecompress.tasks.answers import Answers
from edgecompress.tasks.compare import paired_bootstrap_drop
from edgecompress.values import Example

KIND = task("automatic-speech-recognition")
RATE = 16000
MB = 1e6
FORMS: dict[str, list[Any]] = {
    "fp32": [],
    "int8": ["quantize.dynamic"],
    "int8, decoder in 4 bits": [
        {"quantize.dynamic": {"part": "encoder"}},
        {"quantize.weights": {"part": "decoder", "linear_bits": 4, "embedding_bits": 4}},
    ],
}
"""Our forms: the stages between export and joining."""
WITH_RANGES: dict[str, list[Any]] = {
    "int8 with ranges": [{"quantize.static": {"samples": 32}}],
    "encoder with ranges, decoder in 4 bits": [
        {"quantize.static": {"part": "encoder", "samples": 32}},
        {"quantize.weights": {"part": "decoder", "linear_bits": 4, "embedding_bits": 4}},
    ],
}
"""Those that are calibrated."""
HEADS = ("MB", "words wrong", "WER", "more than fp32", "by Whisper's normalizer",
         "real-time factor", "of the processor", "faster")  # fmt: skip


@dataclass
class Row:
    """A model and what was found out about it."""

    title: str
    size: int
    ask: Callable[[Any], str]
    said: list[str] = field(default_factory=list)
    seconds: list[list[tuple[float, float]]] = field(default_factory=list)


def ours(place: Path, model: Path, title: str, stages: Sequence[Any]) -> Path:
    """Make a bundle as a person would, by a recipe, where it is not there yet."""
    recipe = {
        "name": "speech", "task": KIND.name, "teacher": {"model": str(model)},
        "data": {"format": "tsv", "root": str(place), "train": "some.tsv",
                 "validation": "dev.tsv", "test": "all.tsv",
                 "seen_test": "accept"},
        "stages": ["export", *stages, "join"],
        "profile": {"min_duration_ms": 100, "warmup_ms": 0, "max_warmup_ms": 50, "attempts": 1,
                    "cold_starts": 0, "min_count": 5},
    }  # fmt: skip
    out = place / title.replace(", ", "-").replace(" ", "-")
    file = out.with_suffix(".yaml")
    if (out / "bundle").is_dir():
        return out / "bundle"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    subprocess.run(
        [sys.executable, "-m", "edgecompress", "run", str(file), "-o", str(out)], check=True
    )
    return out / "bundle"


def peer(folder: Path) -> Row | None:
    """Open faster-whisper's model; None where it is not installed."""
    try:
        from faster_whisper import WhisperModel  # type: ignore[import-not-found]
    except ImportError:
        return None
    model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
    how = {"beam_size": 1, "without_timestamps": True, "language": "en", "temperature": 0.0}

    def ask(samples: Any) -> str:
        return " ".join(one.text.strip() for one in model.transcribe(samples, **how)[0])

    size = (folder / "model.bin").stat().st_size
    return Row("faster-whisper, int8 (stored in fp16)", size, ask)


def asked(rows: Sequence[Row], sounds: Sequence[Any], rounds: int) -> None:
    """Ask all models in turns, each sound as often as there are rounds."""
    for row in rows:
        row.said = [row.ask(one) for one in sounds]  # the first time nothing is timed
        row.seconds = [[] for _ in sounds]
    for _ in range(rounds):
        for number, one in enumerate(sounds):
            for row in rows:
                begin = time.perf_counter(), time.process_time()
                row.ask(one)
                end = time.perf_counter(), time.process_time()
                row.seconds[number].append((end[0] - begin[0], end[1] - begin[1]))


def words_wrong(said: Sequence[str], examples: Sequence[Example], normalizer: Any) -> int:
    """Count wrong words after another normalizer."""
    pairs = zip(said, examples, strict=True)
    return sum(
        edits(normalizer(one).split(), normalizer(str(example.target)).split())
        for one, example in pairs
    )


def whispers_own() -> Any:
    """Give Whisper's normalizer; None where transformers or its spellings are not there."""
    try:
        from transformers.models.whisper.english_normalizer import EnglishTextNormalizer
    except ImportError:
        return None
    return EnglishTextNormalizer({})


@click.command()
@click.option("--model", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--calibrate", type=click.Path(path_type=Path, exists=True))
@click.option("--peer", "peers", type=click.Path(path_type=Path, exists=True))
@click.option("--made", type=click.Path(path_type=Path), help="Where the models are kept.")
@click.option("--only", type=click.Choice(["judge", "race"]), help="One of both parts.")
@click.option("--rounds", default=5, help="How often each sound is timed.")
@click.option("--seed", default=7)
def main(
    model: Path,
    data: Path,
    calibrate: Path | None,
    peers: Path | None,
    made: Path | None,
    only: str | None,
    rounds: int,
    seed: int,
) -> None:
    """Measure and print the table of docs/speech.md."""
    with (data / "transcripts.tsv").open(encoding="utf-8", newline="") as stream:
        lines = [
            (str((data / one[0]).absolute()), one[1]) for one in csv.reader(stream, delimiter="\t")
        ]
    with tempfile.TemporaryDirectory() as folder:
        place = (made or Path(folder)).absolute()
        place.mkdir(parents=True, exist_ok=True)
        others = sorted(calibrate.absolute().iterdir()) if calibrate else []
        others = [file for file in others if file.suffix in (".flac", ".wav")]
        some = [(str(file), "?") for file in others] or lines  # what is said there is not read
        # Nothing is chosen by the sounds of `lines`.
        for name, each in (("some.tsv", some), ("dev.tsv", lines), ("all.tsv", lines)):
            with (place / name).open("w", newline="", encoding="utf-8") as stream:
                csv.writer(stream, delimiter="\t").writerows([("audio", "text"), *each])
        rows = []
        for title, stages in (FORMS | WITH_RANGES if calibrate else FORMS).items():
            bundle = ours(place, model.absolute(), title, stages)
            predictor = edgecompress.load(bundle, threads=1)

            def ask(samples: Any, predictor: Any = predictor) -> str:
                return str(
                    predictor.answer({"audio": {"array": samples, "sampling_rate": RATE}}).text
                )

            rows.append(Row(title, (bundle / "model.onnx").stat().st_size, ask))
        found = peer(peers) if peers is not None else None
        rows += [found] if found is not None else []
        heard = [read_sound(Path(file)) for file, _ in lines]
        sounds = [resampled(one.samples, one.rate, RATE) for one in heard]
        asked(rows, sounds, 0 if only == "judge" else rounds)
    examples = [Example({"audio": Path(file)}, text) for file, text in lines]
    length = sum(map(len, sounds)) / RATE
    own = whispers_own()
    click.echo(f"{len(lines)} sounds, {length:.1f} s; {rounds} rounds, one thread\n")
    click.echo("| " + " | ".join(("", *HEADS)) + " |")
    click.echo("|---|" + "--:|" * len(HEADS))
    answers = [
        Answers(tuple((text,) for text in row.said), (np.ones(1),) * len(lines)) for row in rows
    ]
    times = [
        np.median(np.array(row.seconds), axis=1).sum(axis=0) if only != "judge" else (np.nan,) * 2
        for row in rows
    ]
    for row, given, (seconds, busy) in zip(rows, answers, times, strict=True):
        pairs = zip(given, examples, strict=True)
        counts = [WER.counts(*pair) for pair in pairs]  # type: ignore[misc]
        wrong, words = map(sum, zip(*counts, strict=True))
        lost = paired_bootstrap_drop(WER, answers[0], given, examples, seed)
        theirs = words_wrong(row.said, examples, own) if own is not None else "—"
        click.echo(
            f"| {row.title} | {row.size / MB:.2f} | {wrong} of {words} "
            f"| {100 * wrong / words:.2f} | "
            + "{:.1f} ({:.1f} to {:.1f}) | ".format(*(100 * one for one in lost))
            + f"{theirs} | {seconds / length:.3f} | {busy / length:.3f} "
            f"| {times[0][0] / seconds:.2f}× |"
        )


if __name__ == "__main__":
    main()
