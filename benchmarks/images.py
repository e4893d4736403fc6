"""An image classifier in int8, ours beside ONNX Runtime's own quantizer: size, accuracy, speed.

    python benchmarks/images.py --model DIR --data DIR

`--model` holds EfficientNet-Lite0 as ``model.onnx``, with the names of its classes in
``config.json``, or a classifier in Hugging Face's form, which is exported, and, where it is of a
described family (ViT, DeiT), quantized by Neural Compressor, too. `--ways` are fields of
`quantize.static`, each of which makes a row: what bias correction and equalization gain, with a
scale for each channel and with one. `--data` holds images called ``NNN_….jpg`` by the number of
their class. Every fourth image calibrates, of which nobody needs the label. All are then judged:
top-1, top-5, and what is lost against fp32 with a paired bootstrap interval, also over the images
that did not calibrate. All files are timed in one loop, inference by inference, on the same images
and one thread.
With `--made` models stay there, so that `--only judge` and `--only race` can follow each other.
"""

from __future__ import annotations

import csv
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml

from edgecompress.models.session import open_session
from edgecompress.processors.image import ImageProcessor
from edgecompress.surgery.families import described_in
from edgecompress.targets.base import Clock
from edgecompress.targets.inputs import InputSettings
from edgecompress.targets.local import Local
from edgecompress.targets.measure import time_candidates
from edgecompress.tasks import task
from edgecompress.tasks.compare import paired_bootstrap_drop
from edgecompress.tasks.scoring import value_of
from edgecompress.training.heads import class_names
from edgecompress.values import Candidate, Example, Feed, OnnxModel, find

CALIBRATES = 4
"""Every fourth image."""
CLASSES = 1000
WAYS = (
    "{}", '{"bias_correction": false}', '{"per_channel": false}',
    '{"per_channel": false, "bias_correction": false}',
    '{"per_channel": false, "equalize": true}',
)  # fmt: skip
MADE = "models.json"
"""Which models `--made` holds, by title."""
TIMED = 8
"""Images that are timed in turns."""
KIND = task("image-classification")
MB = 1e6
PREPROCESSOR = {
    "size": {"shortest_edge": 256}, "crop_size": 224, "resample": "bicubic", "do_rescale": False,
    "image_mean": 127, "image_std": 128,
}  # fmt: skip
"""Of EfficientNet-Lite0: the middle of 0.875 of the shorter side, and (x - 127) / 128."""


@dataclass
class Row:
    """A file and what was found out about it."""

    title: str
    model: Path
    cells: list[str]


def edgecompress(*arguments: object) -> None:
    """Run a command of ours."""
    subprocess.run([sys.executable, "-m", "edgecompress", *map(str, arguments)], check=True)


def described(place: Path, model: Path, labels: Sequence[str], files: Sequence[Path]) -> Path:
    """Write the recipe that says what the model and the data are."""
    for name, chosen in (("some", files[::CALIBRATES]), ("all", files)):
        with (place / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
            lines = [(str(file), label_of(file, labels)) for file in chosen]
            csv.writer(stream).writerows([("image", "label"), *lines])
    recipe = {
        "name": "images", "task": KIND.name, "model": str(model),
        "data": {"format": "csv", "root": str(place), "train": "some.csv",
                 "validation": "some.csv", "test": "all.csv", "seen_test": "accept"},
        "stages": ["quantize.static" if model.is_file() else "export"],
    }  # fmt: skip
    if model.is_file():
        recipe |= {"labels": list(labels), "preprocessor": PREPROCESSOR}
    (place / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return place / "recipe.yaml"


def label_of(file: Path, labels: Sequence[str]) -> str:
    """Give an image's class; some models have one for the background before ImageNet's."""
    return labels[int(file.name[:3]) + len(labels) - CLASSES]


def ours(place: Path, model: Path, recipe: Path, way: Mapping[str, Any], scheme: str) -> Path:
    """Quantize as a person would; give the graph."""
    fields = [part for key, one in way.items() for part in ("--set", f"{key}={json.dumps(one)}")]
    edgecompress("quantize", model, "--scheme", scheme, "--recipe", recipe, *fields, "-o", place)
    return place / "model" / "model.onnx"


def theirs(
    place: Path, model: Path, feeds: Sequence[Feed], *, symbolic: bool = True, **options: Any
) -> Path:
    """Quantize by ONNX Runtime's quantizer, pre-processed first, as its manual asks.

    `symbolic`: whether its inference of symbolic shapes is tried; it fails on some graphs.
    """
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds: Iterator[Feed] = iter(feeds)

        def get_next(self) -> Feed | None:
            return next(self.feeds, None)

    place.mkdir()
    prepared = str(place / "prepared.onnx")
    quant_pre_process(str(model), prepared, skip_symbolic_shape=not symbolic)
    made = place / "model.onnx"
    quantize_static(str(place / "prepared.onnx"), str(made), Reader(), **options)
    return made


def make(place: Path, model: Path, files: Sequence[Path], labels: Sequence[str],
         ways: Sequence[Mapping[str, Any]]) -> list[Row]:  # fmt: skip
    """Quantize by all means; the first row is fp32."""
    foreign = (model / "model.onnx").is_file()
    start = graph = model / "model.onnx" if foreign else model
    recipe = described(place, start, labels, files)
    if not foreign:
        edgecompress("export", model, "--recipe", recipe, "-o", place / "fp32")
        start, graph = place / "fp32", place / "fp32" / "model" / "model.onnx"
    rows = [Row("fp32", graph, [])]
    for number, way in enumerate(ways):
        told = ", ".join(f"{key}: {json.dumps(one)}" for key, one in way.items())
        made = ours(place / f"way{number}", start, recipe, way, "static")
        rows.append(Row(f"`quantize.static` {told}".rstrip(), made, []))
    if not foreign and described_in(model):  # its stages take no other checkpoint
        made = ours(place / "inc", model, recipe, {}, "inc_static")
        rows.append(Row("`quantize.inc_static`", made, []))
    processor = ImageProcessor.load(place / "way0" / "preprocessor")
    name = processor.input_names[0]
    feeds: list[Feed] = [{name: processor.values(one)[None]} for one in files[::CALIBRATES]]
    for title, options in (("its defaults", {}), ("per channel", {"per_channel": True})):
        made = theirs(place / title, graph, feeds, **options)
        rows.append(Row(f"onnxruntime.quantize_static, {title}", made, []))
    return rows


def sized(rows: Sequence[Row]) -> list[str]:
    """Fill in sizes; gives the heads of the columns."""
    whole = rows[0].model.stat().st_size
    for row in rows:
        size = row.model.stat().st_size
        row.cells += [f"{size / MB:.2f}", f"{whole / size:.2f}×"]
    return ["MB", "smaller"]


def judged(rows: Sequence[Row], examples: Sequence[Example], processor: ImageProcessor,
           labels: Sequence[str], seed: int) -> list[str]:  # fmt: skip
    """Fill in accuracy and what is lost; the first row is fp32. Gives the heads of the columns."""
    encoded = KIND.rows(examples, processor, labels)
    apart = [number for number in range(len(examples)) if number % CALIBRATES]
    reference = None
    for row in rows:
        session = open_session(OnnxModel(row.model))
        name = session.get_inputs()[0].name
        outputs = [session.run(None, {name: one.feed[name][None]})[0][0] for one in encoded]
        found = KIND.decode(outputs, encoded)
        reference = reference or found
        values = [value_of(one, found, examples, labels)[0] for one in KIND.metrics[:2]]
        row.cells += [f"{100 * value:.1f}" for value in values]
        for numbers in (range(len(examples)), apart):
            parts = (reference.part(numbers), found.part(numbers))
            some = [examples[number] for number in numbers]
            lost = paired_bootstrap_drop(KIND.metrics[0], *parts, some, seed)
            row.cells.append("{:.1f} ({:.1f} to {:.1f})".format(*(100 * one for one in lost)))
    return ["top-1", "top-5", "top-1 lost, all", "top-1 lost, not calibrated"]


def timed(rows: Sequence[Row], feeds: Sequence[Feed], place: Path, seconds: float) -> list[str]:
    """Fill in times, all models in one loop. Gives the heads of the columns."""
    items = {f"{n}/{name}": one for n, feed in enumerate(feeds) for name, one in feed.items()}
    np.savez(place / "timed.npz", **items)  # type: ignore[arg-type]
    candidates = [Candidate(OnnxModel(row.model)) for row in rows]
    clock = Clock(threads=1, min_duration_ms=seconds * 1e3, min_count=5 * len(feeds))
    inputs = InputSettings(file=place / "timed.npz")
    found = time_candidates(candidates, (), clock, Local(), inputs=inputs)
    for index, row in enumerate(rows):
        p50 = find(found.latencies(index), "latency_p50")
        ratio = found.speedup(0, index, "fp32")
        assert p50 is not None
        interval = " ({:.2f}–{:.2f})".format(*ratio.interval) if ratio.interval else ""
        row.cells += [f"{p50.value:.2f}", f"{ratio.value:.2f}×{interval}"]
        for reason in filter(None, (p50.invalid, ratio.invalid)):
            row.cells[-1] += " not valid"
            click.echo(f"{row.title}: {reason}", err=True)
    return ["ms, p50", "faster"]


def show(heads: Sequence[str], rows: Sequence[Row]) -> None:
    """Print a table."""
    print(f"\n|  | {' | '.join(heads)} |\n|---|" + "--:|" * len(heads))
    for row in rows:
        print("| " + " | ".join([row.title, *row.cells]) + " |")


@click.command(help=__doc__)
@click.option("--model", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--ways", multiple=True, default=WAYS, help="Fields of a row, as JSON. Repeatable.")
@click.option(
    "--limit", type=click.IntRange(min=8), help="So many images, spread evenly; else all."
)
@click.option("--made", type=click.Path(path_type=Path), help="Where the models are kept.")
@click.option("--only", type=click.Choice(["judge", "race"]), help="One of both parts.")
@click.option("--seconds", default=30.0, help="Of interleaved timing.")
@click.option("--seed", default=0, help="Of the bootstrap.")
def main(model: Path, data: Path, ways: Sequence[str], limit: int | None, made: Path | None,
         only: str | None, seconds: float, seed: int) -> None:  # fmt: skip
    """Run."""
    logging.disable(logging.WARNING)  # ONNX Runtime's quantizer advises at each call
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    named = config.get("id2label") or dict(enumerate(config["labels"]))
    labels = class_names({"id2label": named})
    files = sorted(data.glob("*.jpg"))
    files = files[:: -(-len(files) // limit)] if limit else files
    examples = [Example({"image": file}, label_of(file, labels)) for file in files]
    with tempfile.TemporaryDirectory() as folder:
        place = made or Path(folder)
        place.mkdir(exist_ok=True)
        if not (place / MADE).is_file():
            rows = make(place, model, files, labels, [*map(json.loads, ways)])
            (place / MADE).write_text(json.dumps({one.title: str(one.model) for one in rows}))
        there = json.loads((place / MADE).read_text())
        rows = [Row(title, Path(file), []) for title, file in there.items()]
        heads = sized(rows)
        processor = ImageProcessor.load(place / "way0" / "preprocessor")
        if only != "race":
            heads += judged(rows, examples, processor, labels, seed)
        if only != "judge":
            name = processor.input_names[0]
            some = files[:: len(files) // TIMED][:TIMED]
            feeds: list[Feed] = [{name: processor.values(file)[None]} for file in some]
            heads += timed(rows, feeds, Path(folder), seconds)
    show(heads, rows)
    print(f"\n{len(files)} images, {len(files[::CALIBRATES])} of which calibrated.")


if __name__ == "__main__":
    main()
