"""A keyword spotter: int8 beside ONNX Runtime's own quantizer, and narrower students of it.

    python benchmarks/keywords.py --model DIR --data DIR --speech DIR --speech DIR

`--model` holds res8 of honk (``model.onnx``, ``model.safetensors``, ``config.json``), `--data`
Speech Commands as folders of words, and each `--speech` recordings in which nobody says keywords
(FLAC needs soundfile). Clips of that speech, which nobody has labelled, calibrate and teach; all of
`--data` is judged once: twelve classes, where other words are «unknown», the ten keywords alone,
and what is lost against fp32 with a paired bootstrap interval. The first `--speech` is also
listened to as a stream: what is heard in it is false. All int8 files are timed in one loop,
inference by inference, on one thread. `--students` distils narrower networks of given numbers of
channels: it takes some twenty minutes of one core.
"""

from __future__ import annotations

import csv
import json
import logging
import subprocess
import sys
import tempfile
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml
from images import MB, Row, theirs, timed
from keyword_clips import Clips, balanced, recordings

from edgecompress.models.session import open_session
from edgecompress.processors.audio import AudioProcessor
from edgecompress.processors.audio_settings import read_settings
from edgecompress.tasks import task
from edgecompress.tasks.answers import Answers
from edgecompress.tasks.audio_classification import FALSE_ACCEPTS
from edgecompress.tasks.compare import paired_bootstrap_drop
from edgecompress.tasks.scoring import value_of
from edgecompress.values import Example, Feed, Json, OnnxModel

KIND = task("audio-classification")
RECIPE = Path(__file__).parent.parent / "models" / "keywords-res8.yaml"
TIMED = 8
"""Clips that are timed in turns."""
CALIBRATES = 128
PEER = ((66_600, 90.3), (22_800, 85.7), (12_700, 83.0), (4_500, 74.7))
"""Parameters and accuracy of twelve classes of a peer's pruning by channels, retrained."""
STUDENTS = ((35, (34, 34, 34)), (20, (20, 20, 20)), (15, (15, 15, 15)), (8, (10, 10, 9)))
"""Channels of ours, none of more parameters."""


def run(place: Path, recipe: Json) -> Path:
    """Run a recipe as a person would; give the graph of its bundle."""
    place.mkdir()
    (place / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    command = [sys.executable, "-m", "edgecompress", "run", str(place / "recipe.yaml")]
    subprocess.run([*command, "-o", str(place / "out")], check=True, stdout=sys.stderr)
    return place / "out" / "bundle" / "model.onnx"


def write_clips(place: Path, clips: Clips, labels: Sequence[str], rate: int) -> None:
    """Write clips as files with the model's own answers: nine of ten to learn from."""
    rows: dict[str, list[tuple[str, str]]] = {"train": [], "validation": [], "calibration": []}
    for number, (samples, answer) in enumerate(zip(clips.sounds, clips.answers, strict=True)):
        file = place / "clips" / f"{number}.wav"
        file.parent.mkdir(exist_ok=True)
        with wave.open(str(file), "wb") as stream:
            stream.setnchannels(1)
            stream.setsampwidth(2)
            stream.setframerate(rate)
            stream.writeframes(np.round(samples * 32768).astype("<i2").tobytes())
        split = "train" if number % 10 else "validation"
        rows[split].append((str(file), labels[answer]))
    rows["calibration"] = rows["train"][:CALIBRATES]
    for name, lines in rows.items():
        with (place / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("audio", "label"), *lines])


def settings(place: Path, train: str) -> Json:
    """Give what all recipes here have in common."""
    return {
        "task": KIND.name, "minimize": "size",
        "data": {"format": "csv", "root": str(place), "train": f"{train}.csv",
                 "validation": "validation.csv", "test": "test.csv"},
        "profile": {"min_duration_ms": 100, "warmup_ms": 0, "max_warmup_ms": 50, "attempts": 1,
                    "cold_starts": 0, "min_count": 10},
    }  # fmt: skip


def write_torch(place: Path, model: Path, description: Json, labels: Sequence[str]) -> Any:
    """Write the checkpoint in Hugging Face's form; give its module."""
    from safetensors.torch import load_file

    from edgecompress.modules.keyword_networks import (
        ResKeywordConfig,
        ResKeywordForAudioClassification,
    )

    module = ResKeywordForAudioClassification(ResKeywordConfig(id2label=dict(enumerate(labels))))
    module.load_state_dict(load_file(model / "model.safetensors"))
    save(place / "teacher", module.eval(), description)
    return module


def save(folder: Path, module: Any, description: Json) -> None:
    """Write a module with what says how sounds are fed to it."""
    module.save_pretrained(folder)
    text = json.dumps(description)
    (folder / "preprocessor_config.json").write_text(text, encoding="utf-8")


def students(
    place: Path, module: Any, description: Json, epochs: int
) -> Iterator[tuple[int, Path]]:
    """Cut the teacher's weakest channels and distil what is left, on clips without labels."""
    for number, (width, inner) in enumerate(STUDENTS):
        narrow = module.narrowed(width, inner)
        folder = place / f"student{number}"
        save(folder, narrow, description)
        learning = {"epochs": epochs, "learning_rate": 2e-3, "batch_size": 32, "label_weight": 0.0,
                    "temperature": 2.0, "schedule": "cosine"}  # fmt: skip
        recipe = {
            "name": f"student{number}", "teacher": {"model": str(place / "teacher")},
            "model": str(folder), "stages": [{"distil": learning}, "export"],
            **settings(place, "train"),
        }  # fmt: skip
        count = sum(one.numel() for one in narrow.parameters())
        yield count, run(place / f"distilled{number}", recipe)


def answers(model: Path, examples: Sequence[Example], processor: AudioProcessor,
            labels: Sequence[str]) -> Answers:  # fmt: skip
    """Ask a graph as its bundle would be asked."""
    rows = KIND.rows(examples, processor, labels)
    session = open_session(OnnxModel(model))
    name, own = session.get_inputs()[0].name, processor.input_names[0]
    return KIND.decode([session.run(None, {name: one.feed[own][None]})[0][0] for one in rows], rows)


def judged(rows: Sequence[Row], examples: Sequence[Example], processor: AudioProcessor,
           labels: Sequence[str], background: Sequence[str], seed: int) -> None:  # fmt: skip
    """Fill in accuracy and what is lost; the first row is fp32."""
    words = [n for n, one in enumerate(examples) if one.target not in background]
    reference = None
    for row in rows:
        found = answers(row.model, examples, processor, labels)
        reference = reference or found
        part = [examples[number] for number in words]
        accuracy, _ = value_of(KIND.metrics[0], found, examples, labels)
        keywords, _ = value_of(KIND.metrics[0], found.part(words), part, labels)
        row.cells += [f"{100 * accuracy:.1f}", f"{100 * keywords:.1f}"]
        lost = paired_bootstrap_drop(KIND.metrics[0], reference, found, examples, seed)
        row.cells.append("{:.1f} ({:.1f} to {:.1f})".format(*(100 * one for one in lost)))


def listened(rows: Sequence[Row], folder: Path, processor: AudioProcessor,
             labels: Sequence[str], background: str) -> str:  # fmt: skip
    """Fill in what is heard in speech in which nobody says a keyword; say how long it is."""
    files = [one for one in sorted(folder.iterdir()) if one.suffix in (".flac", ".wav")]
    examples = [Example({"audio": file}, background) for file in files]
    seconds = 0.0
    for row in rows:
        found = answers(row.model, examples, processor, labels)
        count = sum(len(one["heard"]) for one in found.details)
        seconds = sum(float(one["seconds"]) for one in found.details)
        value, _ = value_of(FALSE_ACCEPTS, found, examples, labels)
        row.cells.append(f"{count} ({value:.0f})")
    return f"{len(files)} recordings, {seconds / 60:.1f} minutes"


def table(heads: Sequence[str], rows: Sequence[Row]) -> None:
    """Print rows."""
    print("| " + " | ".join(heads) + " |\n|---|" + "--:|" * (len(heads) - 1))
    for row in rows:
        print("| " + " | ".join([row.title, *row.cells]) + " |", flush=True)


@click.command(help=__doc__)
@click.option("--model", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option(
    "--speech", type=click.Path(path_type=Path, exists=True), multiple=True, required=True
)
@click.option("--clips", default=3000, help="Of speech, to calibrate and to learn from.")
@click.option("--students", "distils", is_flag=True, help="Distil narrower networks, too.")
@click.option("--epochs", default=20, help="Of each student.")
@click.option("--seconds", default=30.0, help="Of interleaved timing.")
@click.option("--seed", default=0, help="Of the clips and the bootstrap.")
def main(
    model: Path, data: Path, speech: tuple[Path, ...], clips: int, distils: bool, epochs: int,
    seconds: float, seed: int,
) -> None:  # fmt: skip
    """Run."""
    logging.disable(logging.WARNING)  # ONNX Runtime's quantizer advises at each call
    described = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    description, labels = described["preprocessor"], described["labels"]
    background = description["stream"]["background"]
    files, graph = sorted(data.glob("*/*.wav")), model / "model.onnx"
    known = [file.parent.name if file.parent.name in labels else background[1] for file in files]
    examples = [Example({"audio": file}, one) for file, one in zip(files, known, strict=True)]
    processor = AudioProcessor(read_settings(description), "")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        taken = recordings(speech, processor)
        made = balanced(taken, graph, processor, clips, 2 * clips, seed)
        write_clips(place, made, labels, processor.settings.sampling_rate)
        with (place / "test.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("audio", "label"), *zip(files, known, strict=True)])
        recipe = {
            "name": "keywords", "model": str(graph), "labels": labels, "preprocessor": description,
            "stages": [{"quantize.static": {"method": "mse"}}], **settings(place, "calibration"),
        }  # fmt: skip
        rows = [Row("fp32", graph, []),
                Row("edgecompress, quantize.static", run(place / "int8", recipe), [])]  # fmt: skip
        name = open_session(OnnxModel(graph)).get_inputs()[0].name
        train = [number for number in range(len(made.sounds)) if number % 10][:CALIBRATES]
        feeds: list[Feed] = [{name: made.features[number][None]} for number in train]
        for title, options in (("its defaults", {}), ("per channel", {"per_channel": True})):
            quantized = theirs(place / title, graph, feeds, **options)
            rows.append(Row(f"onnxruntime.quantize_static, {title}", quantized, []))
        for row in rows:
            size = row.model.stat().st_size
            row.cells += [f"{size / MB:.3f}", f"{graph.stat().st_size / size:.2f}×"]
        judged(rows, examples, processor, labels, background, seed)
        long = listened(rows, speech[0], processor, labels, background[1])
        timed(rows, feeds[:TIMED], place, seconds)
        table(["", "MB", "smaller", "12 classes", "keywords", "lost", "false accepts (per hour)",
               "ms, p50", "faster"], rows)  # fmt: skip
        print(f"\n{len(files)} clips are judged; false accepts in {long}.\n", flush=True)
        if distils:
            module = write_torch(place, model, description, labels)
            narrow = [Row("res8", graph, ["110,442"])]
            for (most, there), (count, made_graph) in zip(
                PEER, students(place, module, description, epochs), strict=True
            ):
                narrow.append(Row(f"at most {most:,} ({there})", made_graph, [f"{count:,}"]))
                print(f"{count:,} parameters are distilled", file=sys.stderr, flush=True)
            judged(narrow, examples, processor, labels, background, seed)
            listened(narrow, speech[0], processor, labels, background[1])
            table(["parameters (a peer's 12 classes)", "ours", "12 classes", "keywords", "lost",
                   "false accepts (per hour)"], narrow)  # fmt: skip


if __name__ == "__main__":
    main()
