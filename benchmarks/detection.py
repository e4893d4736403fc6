"""A detector in int8, ours beside the quantizers of others: size, mAP, speed.

    python benchmarks/detection.py --model FILE --data DIR --calibrate DIR

`--model` is YOLOv3-tiny as ONNX, with the outputs ``boxes`` (centre and size in pixels) and
``scores``; `--data` holds ``images``, ``labels`` in YOLO's form and ``config.yaml``. `--calibrate`
is a folder of images that are in none of both, without labels; some of them, spread evenly,
calibrate all models. What is lost against fp32 has a paired bootstrap interval over the images of
`--data`. All files are timed in one loop, inference by inference, on the same images and one
thread. `--module` is a Python file with the same model in PyTorch (``YoloV3Tiny`` and ``load``, its
weights in ``model.safetensors`` beside it), which Neural Compressor quantizes: it reads no ONNX.

`--keep DIR --only judge` makes and judges, `--keep DIR --only race` times what was made.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import yaml
from images import MB, Row, theirs, timed

from edgecompress.data import data_config
from edgecompress.models.runner import open_onnx
from edgecompress.processors.detection import DetectionProcessor
from edgecompress.tasks import Answers, task
from edgecompress.tasks.compare import paired_bootstrap_drop
from edgecompress.tasks.scoring import value_of
from edgecompress.values import Candidate, Example, Feed, OnnxModel

TIMED = 8
"""Images that are timed in turns."""
MODELS = "models.json"
"""Beside them: what the kept models are called."""
KIND = task("object-detection")
PREPROCESSOR = {
    "size": 416, "letterbox": 128, "do_normalize": False,
    "detector": {"outputs": ["boxes", "scores"], "iou": 0.45},
}  # fmt: skip


def ours(
    place: Path, model: Path, data: Path, calibrate: Path, labels: Sequence[str], samples: int
) -> Path:
    """Quantize as a person would, by a recipe; give the candidate's folder."""
    for part in ("images", "labels"):
        (place / "data" / part).mkdir(parents=True)
        (place / "data" / part / "val").symlink_to((data / part).absolute())
    (place / "data" / "images" / "train").symlink_to(calibrate.absolute())
    recipe = {
        "name": "detection", "task": KIND.name, "model": str(model.absolute()),
        "labels": list(labels), "preprocessor": PREPROCESSOR,
        "data": {"format": "yolo", "root": str(place / "data"), "names": list(labels),
                 "train": "images/train", "validation": "images/val", "unlabelled": "nothing"},
        "stages": [{"quantize.static": {"samples": samples}}],
    }  # fmt: skip
    (place / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    command = [sys.executable, "-m", "edgecompress", "quantize", str(model.absolute()),
               "--scheme", "static", "--recipe", str(place / "recipe.yaml"),
               "--set", f"samples={samples}", "--store", str(place / "store"),
               "-o", str(place / "ours")]  # fmt: skip
    subprocess.run(command, check=True)
    return place / "ours"


def by_inc(place: Path, module: Path, feeds: Sequence[Feed]) -> Path:
    """Quantize the PyTorch model by Neural Compressor's static scheme, and export it."""
    import torch
    from neural_compressor.torch.export import export
    from neural_compressor.torch.quantization import StaticQuantConfig, convert, prepare

    found = importlib.util.spec_from_file_location("detector", module)
    assert found is not None and found.loader is not None
    theirs_module: Any = importlib.util.module_from_spec(found)
    found.loader.exec_module(theirs_module)
    net = theirs_module.load(theirs_module.YoloV3Tiny(), str(module.parent / "model.safetensors"))
    (name,) = feeds[0]
    images = [torch.from_numpy(feed[name]) for feed in feeds]
    with torch.no_grad():
        prepared = prepare(export(net.eval(), (images[0],)), StaticQuantConfig())
        for image in images:
            prepared(image)
        made = convert(prepared)
        place.mkdir()
        torch.onnx.export(
            torch.export.export(made, (images[0],)), (), place / "model.onnx", dynamo=True,
            opset_version=21, input_names=[name], output_names=["boxes", "scores"],
            external_data=False,
        )  # fmt: skip
    return place / "model.onnx"


def answered(
    place: Path, model: Path, examples: Sequence[Example], processor: DetectionProcessor,
    labels: Sequence[str],
) -> Answers:  # fmt: skip
    """Ask a model about all images, one at a time, and read its boxes by the same code."""
    graph = OnnxModel(model)
    opened = open_onnx(graph)
    if KIND.outputs[0].name not in opened.outputs:
        graph = KIND.take_graph(graph, lambda: opened, processor, labels, place / "read")
        opened = open_onnx(graph)
    rows = KIND.rows(examples, processor, labels)
    outputs = [
        KIND.compact(opened(rows.batch([number], processor.input_names))["detections"][0], row)
        for number, row in enumerate(rows)
    ]
    return KIND.decode(outputs, rows)


@click.command(help=__doc__)
@click.option("--model", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--calibrate", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--module", type=click.Path(path_type=Path, exists=True))
@click.option("--samples", default=100, help="Images that calibrate.")
@click.option("--seconds", default=30.0, help="Of interleaved timing; 0 for none.")
@click.option("--seed", default=0, help="Of the bootstrap.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder for what is made.")
@click.option(
    "--only", type=click.Choice(["judge", "race"]), help="One of both; race times what --keep has."
)
def main(
    model: Path, data: Path, calibrate: Path, module: Path | None, samples: int, seconds: float,
    seed: int, keep: Path | None, only: str | None,
) -> None:  # fmt: skip
    """Run."""
    logging.disable(logging.WARNING)  # ONNX Runtime's quantizer advises at each call
    if only is not None and keep is None:
        raise click.UsageError("--only needs --keep")
    document = yaml.safe_load((data / "config.yaml").read_text(encoding="utf-8"))
    labels = tuple(dict(enumerate(document["names"])).values())
    if isinstance(document["names"], dict):
        labels = tuple(document["names"][number] for number in sorted(document["names"]))
    given = data_config(
        {"format": "yolo", "root": data, "names": list(labels), "validation": "images"}
    )
    examples = given.read("validation")
    heads = [""]
    with tempfile.TemporaryDirectory() as folder:
        place = keep or Path(folder)
        if only != "race":
            place.mkdir(parents=True, exist_ok=True)
            rows = made_rows(place, model, data, calibrate, labels, samples, module)
            listed = {row.title: str(row.model) for row in rows}
            (place / MODELS).write_text(json.dumps(listed), encoding="utf-8")
        else:
            listed = json.loads((place / MODELS).read_text(encoding="utf-8"))
            rows = [Row(title, Path(file), []) for title, file in listed.items()]
        processor = processor_of(place)
        if only != "race":
            judge(rows, place, examples, processor, labels, seed)
            heads += ["MB", "smaller", "mAP", "mAP at 0.5", "mAP lost, points", "of it"]
        if seconds and only != "judge":
            asked = [one.inputs["image"] for one in examples[:: len(examples) // TIMED][:TIMED]]
            (name,) = processor.input_names
            timed(rows, [{name: processor.values(one)[None]} for one in asked], place, seconds)
            heads += ["ms, p50", "faster"]
    print("| " + " | ".join(heads) + " |\n|---|" + "--:|" * (len(heads) - 1))
    for row in rows:
        print("| " + " | ".join([row.title, *row.cells]) + " |")
    print(f"\n{len(examples)} images; {samples} others calibrated.")


def processor_of(place: Path) -> DetectionProcessor:
    """Give what makes inputs of images, as our candidate has it."""
    return DetectionProcessor.load(Candidate.load(place / "ours").preprocessor)


def made_rows(
    place: Path, model: Path, data: Path, calibrate: Path, labels: Sequence[str], samples: int,
    module: Path | None,
) -> list[Row]:  # fmt: skip
    """Quantize by ours and by the others; the first row is fp32."""
    made = Candidate.load(ours(place, model, data, calibrate, labels, samples))
    assert isinstance(made.model, OnnxModel)
    processor = processor_of(place)
    (name,) = processor.input_names
    files = sorted(calibrate.glob("*.jpg"))
    some = [files[n] for n in np.linspace(0, len(files) - 1, samples).astype(int)]
    feeds: list[Feed] = [{name: processor.values(file)[None]} for file in some]
    rows = [Row("fp32", model, []), Row("edgecompress, quantize.static", made.model.path, [])]
    per_channel: dict[str, Any] = {"per_channel": True}
    for title, options in (
        ("its defaults", {}),
        ("per channel", per_channel),
        ("per channel, convolutions", {**per_channel, "op_types_to_quantize": ["Conv"]}),
    ):
        file = theirs(place / title, model, feeds, symbolic=False, **options)
        rows.append(Row(f"onnxruntime.quantize_static, {title}", file, []))
    if module is not None:
        rows.append(Row("Neural Compressor, static", by_inc(place / "inc", module, feeds), []))
    return rows


def judge(
    rows: Sequence[Row], place: Path, examples: Sequence[Example], processor: DetectionProcessor,
    labels: Sequence[str], seed: int,
) -> None:  # fmt: skip
    """Fill in sizes, both precisions, and what is lost against the first row."""
    reference, full = None, rows[0].model.stat().st_size
    for number, row in enumerate(rows):
        size = row.model.stat().st_size
        row.cells += [f"{size / MB:.2f}", f"{full / size:.2f}×"]
        found = answered(place / str(number), row.model, examples, processor, labels)
        reference = reference or found
        values = [value_of(one, found, examples, labels)[0] for one in KIND.metrics]
        row.cells += [f"{100 * value:.2f}" for value in values]
        lost = paired_bootstrap_drop(KIND.metrics[0], reference, found, examples, seed)
        whole = value_of(KIND.metrics[0], reference, examples, labels)[0]
        row.cells.append("{:.2f} ({:.2f} to {:.2f})".format(*(100 * one for one in lost)))
        row.cells.append(f"{100 * lost[0] / whole:.1f} %")
        print(row.title, row.cells, file=sys.stderr)


if __name__ == "__main__":
    main()
