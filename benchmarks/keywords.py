"""A keyword spotter: int8 beside ONNX Runtime's own quantizer, and narrower students of it.

    python benchmarks/keywords.py --model DIR --data DIR --speech DIR --speech DIR
    python benchmarks/keywords.py --model DIR --data DIR --speech DIR --speech DIR --students

`--model` holds res8 of honk (``model.onnx``, ``model.safetensors``), `--data` Speech Commands as
folders of words, and each `--speech` recordings in which nobody says keywords (FLAC needs
soundfile). Judged is twelve classes, where other words are «unknown», the ten keywords alone, and
what is lost against fp32 with a paired bootstrap interval.

Without `--students`: clips of the speech, which nobody has labelled, calibrate, and all of
`--data` is judged once. Each `--speech` is also listened to as a stream: what is heard in it is
false, unless somebody does say it. All int8 files are timed in one loop, inference by inference, on
one thread; `--seconds 0` leaves that out, and `--keep` and `--race` do it apart from the rest.

With it narrower networks are made, one for each size of a peer's: `keyword_students` says how, and
why each is judged on speakers that it does not know. `--most` makes only some of them.
"""

from __future__ import annotations

import csv
import json
import logging
import subprocess
import sys
import tempfile
import wave
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import yaml
from images import MB, Row, theirs, timed
from keyword_clips import Clips, Samples, balanced, recordings
from keyword_students import Plan, students, whole

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
PEER = {66_600: 90.3, 22_800: 85.7, 12_700: 83.0, 4_500: 74.7}
"""Parameters and accuracy of twelve classes of a peer's pruning by channels, retrained on all of
Speech Commands."""


def run(place: Path, recipe: Json) -> Path:
    """Run a recipe as a person would; give the graph of its bundle."""
    place.mkdir()
    (place / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    command = [sys.executable, "-m", "edgecompress", "run", str(place / "recipe.yaml")]
    subprocess.run([*command, "-o", str(place / "out")], check=True, stdout=sys.stderr)
    return place / "out" / "bundle" / "model.onnx"


def write_sounds(folder: Path, sounds: Sequence[Samples], rate: int) -> list[Path]:
    """Write clips as files: what is made of a file is kept, and not made again."""
    folder.mkdir()
    files = [folder / f"{number}.wav" for number in range(len(sounds))]
    for file, samples in zip(files, sounds, strict=True):
        with wave.open(str(file), "wb") as stream:
            stream.setnchannels(1)
            stream.setsampwidth(2)
            stream.setframerate(rate)
            integers = np.clip(np.round(samples * 32768), -32768, 32767)
            stream.writeframes(integers.astype("<i2").tobytes())
    return files


def write_clips(place: Path, clips: Clips, labels: Sequence[str], rate: int) -> None:
    """Write clips as files with the model's own answers: the first to calibrate with."""
    files = write_sounds(place / "clips", clips.sounds, rate)
    rows = [(str(file), labels[one]) for file, one in zip(files, clips.answers, strict=True)]
    parts = {"calibration": rows[:CALIBRATES], "validation": rows[CALIBRATES:]}
    for name, lines in parts.items():
        with (place / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("audio", "label"), *lines])


def settings(place: Path) -> Json:
    """Give what a recipe says of the data, and how briefly it is profiled."""
    return {
        "task": KIND.name, "minimize": "size",
        "data": {"format": "csv", "root": str(place), "train": "calibration.csv",
                 "validation": "validation.csv", "test": "test.csv"},
        "profile": {"min_duration_ms": 100, "warmup_ms": 0, "max_warmup_ms": 50, "attempts": 1,
                    "cold_starts": 0, "min_count": 10},
    }  # fmt: skip


def write_torch(folder: Path, model: Path, description: Json, labels: Sequence[str]) -> Path:
    """Write the checkpoint in Hugging Face's form."""
    from safetensors.torch import load_file

    from edgecompress.modules.keyword_networks import (
        ResKeywordConfig,
        ResKeywordForAudioClassification,
    )

    module = ResKeywordForAudioClassification(ResKeywordConfig(id2label=dict(enumerate(labels))))
    module.load_state_dict(load_file(model / "model.safetensors"))
    module.eval().save_pretrained(folder)
    text = json.dumps(description)
    (folder / "preprocessor_config.json").write_text(text, encoding="utf-8")
    return folder


def answers(model: Path, examples: Sequence[Example], processor: AudioProcessor,
            labels: Sequence[str]) -> Answers:  # fmt: skip
    """Ask a graph as its bundle would be asked."""
    rows = KIND.rows(examples, processor, labels)
    session = open_session(OnnxModel(model))
    name, own = session.get_inputs()[0].name, processor.input_names[0]
    return KIND.decode([session.run(None, {name: one.feed[own][None]})[0][0] for one in rows], rows)


def scored(found: Answers, reference: Answers, examples: Sequence[Example], labels: Sequence[str],
           background: Sequence[str], seed: int) -> list[str]:  # fmt: skip
    """Give accuracy of all classes and of the keywords alone, and what is lost."""
    words = [n for n, one in enumerate(examples) if one.target not in background]
    accuracy, _ = value_of(KIND.metrics[0], found, examples, labels)
    part = [examples[number] for number in words]
    keywords, _ = value_of(KIND.metrics[0], found.part(words), part, labels)
    lost = paired_bootstrap_drop(KIND.metrics[0], reference, found, examples, seed)
    return [f"{100 * accuracy:.1f}", f"{100 * keywords:.1f}",
            "{:.1f} ({:.1f} to {:.1f})".format(*(100 * one for one in lost))]  # fmt: skip


def listened(rows: Sequence[Row], folder: Path, processor: AudioProcessor,
             labels: Sequence[str], background: str) -> str:  # fmt: skip
    """Fill in what is heard in speech in which nobody says a keyword; say how long it is."""
    files = [one for one in sorted(folder.iterdir()) if one.suffix in (".flac", ".wav")]
    examples = [Example({"audio": file}, background) for file in files]
    seconds, said = 0.0, []
    for row in rows:
        found = answers(row.model, examples, processor, labels)
        words = Counter(str(word) for one in found.details for word in one["heard"])
        seconds = sum(float(one["seconds"]) for one in found.details)
        value, _ = value_of(FALSE_ACCEPTS, found, examples, labels)
        row.cells.append(f"{words.total()} ({value:.0f})")
        listed = ", ".join(f"{count} × {word}" for word, count in words.most_common())
        said.append(f"- {row.title}: {listed or 'nothing'}")
    print(f"\n{folder.name}, {len(files)} recordings, {seconds / 60:.1f} minutes; heard by",
          *said, sep="\n", flush=True)  # fmt: skip
    return f"accepts an hour, {folder.name}"


def table(heads: Sequence[str], rows: Sequence[Row]) -> None:
    """Print rows."""
    print("| " + " | ".join(heads) + " |\n|---|" + "--:|" * (len(heads) - 1))
    for row in rows:
        print("| " + " | ".join([row.title, *row.cells]) + " |", flush=True)


def quantized(place: Path, graph: Path, described: Json, clips: Clips) -> list[Row]:
    """Make the files in int8."""
    labels, description = described["labels"], described["preprocessor"]
    write_clips(place, clips, labels, description["sampling_rate"])
    recipe = {
        "name": "keywords", "model": str(graph), "labels": labels, "preprocessor": description,
        "stages": [{"quantize.static": {"method": "mse"}}], **settings(place),
    }  # fmt: skip
    rows = [Row("fp32", graph, []),
            Row("edgecompress, quantize.static", run(place / "int8", recipe), [])]  # fmt: skip
    feeds = calibration(graph, clips)
    for title, options in (("its defaults", {}), ("per channel", {"per_channel": True})):
        made = theirs(place / title, graph, feeds, **options)
        rows.append(Row(f"onnxruntime.quantize_static, {title}", made, []))
    return rows


def calibration(graph: Path, clips: Clips) -> list[Feed]:
    """Give what calibrates as a graph is fed it."""
    name = open_session(OnnxModel(graph)).get_inputs()[0].name
    return [{name: features[None]} for features in clips.features[:CALIBRATES]]


@click.command(help=__doc__)
@click.option("--model", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option(
    "--speech", type=click.Path(path_type=Path, exists=True), multiple=True, required=True
)
@click.option("--clips", default=0, help="Of speech: 256, or for students 1200.")
@click.option("--students", "distils", is_flag=True, help="Make narrower networks.")
@click.option("--most", multiple=True, type=int, default=list(PEER), help="Parameters of each.")
@click.option("--epochs", default=Plan.epochs, help="Of the first student, more of smaller ones.")
@click.option("--copies", default=Plan.copies, help="Variations of each word.")
@click.option("--parts", default=Plan.parts, help="That speakers are divided into.")
@click.option("--seconds", default=30.0, help="Of interleaved timing.")
@click.option("--keep", type=click.Path(path_type=Path), help="A new folder for the files.")
@click.option("--race", is_flag=True, help="Only time the files in --keep.")
@click.option("--seed", default=0, help="Of the clips and the bootstrap.")
def main(
    model: Path, data: Path, speech: tuple[Path, ...], clips: int, distils: bool,
    most: tuple[int, ...], epochs: int, copies: int, parts: int, seconds: float,
    keep: Path | None, race: bool, seed: int,
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
        place = keep or Path(folder)
        if race:
            titles = json.loads((place / "rows.json").read_text(encoding="utf-8"))
            rows = [Row(title, Path(file), []) for title, file in titles.items()]
            name = open_session(OnnxModel(graph)).get_inputs()[0].name
            timed(rows, [{name: processor.values(file)[None]} for file in files[:TIMED]],
                  Path(folder), seconds)  # fmt: skip
            table(["", "ms, p50", "faster"], rows)
            return
        place.mkdir(exist_ok=True)
        taken = recordings(speech, processor)
        clips = clips or (1200 if distils else 2 * CALIBRATES)
        made = balanced(taken, graph, processor, clips, 2 * clips, seed)
        with (place / "test.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("audio", "label"), *zip(files, known, strict=True)])
        if not distils:
            rows = quantized(place, graph, described, made)
            (place / "rows.json").write_text(
                json.dumps({one.title: str(one.model) for one in rows})
            )
            reference = answers(graph, examples, processor, labels)
            for row in rows:
                size = row.model.stat().st_size
                row.cells += [f"{size / MB:.3f}", f"{graph.stat().st_size / size:.2f}×"]
                found = answers(row.model, examples, processor, labels)
                row.cells += scored(found, reference, examples, labels, background, seed)
            heads = [listened(rows, one, processor, labels, background[1]) for one in speech]
            if seconds:
                timed(rows, calibration(graph, made)[:TIMED], place, seconds)
            table(["", "MB", "smaller", "12 classes", "keywords", "lost", *heads,
                   *(["ms, p50", "faster"] if seconds else [])], rows)  # fmt: skip
            print(f"\n{len(files)} clips are judged.")
            return
        teacher = write_torch(place / "teacher", model, description, labels)
        plan = Plan(parts, copies, epochs, seed=seed)
        heads = ["parameters, at most", "a peer's", "ours", "cut and fitted", "taught", "keywords",
                 "lost", "kB, fp32", "kB, int8"]  # fmt: skip
        reference = answers(graph, examples, processor, labels)
        table(heads, [])
        for one in students(place, teacher, most, examples, taken, made, processor, labels, plan,
                            write_sounds):  # fmt: skip
            cut, taught = (scored(whole(found), reference, examples, labels, background, seed)
                           for found in (one.cut, one.taught))  # fmt: skip
            sizes = [f"{file.stat().st_size / 1e3:.0f}" for file in one.graphs.values()]
            there = PEER.get(one.most, "")
            cells = [f"{one.most:,}", there, f"{one.parameters:,}", cut[0], *taught, *sizes]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
