"""A convolutional network without a third and half of its channels, ours beside Torch-Pruning.

    python benchmarks/channels.py --model DIR --data DIR

`--model` is an image classifier of transformers, `--data` holds images in ``train/CLASS`` and
``test/CLASS``. The classifier is fine-tuned on them, on images of `--side` pixels. Then, at the
same share of multiply-accumulates:

- cut only: by Torch-Pruning, where it is installed (``pip install torch-pruning``; weights, its
  default), with and without batch normalizations that are measured anew, and by `prune.channels`;
- healed: `prune.channels`, then `distil`, then the export and `quantize.static`, timed beside the
  whole model in fp32 and int8, inference by inference, on one thread.

A tenth of the training images chooses the best epochs. The test images are read once, at the end.
"""

from __future__ import annotations

import copy
import importlib
import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from images import Row, judged, timed

from edgecompress.context import Context
from edgecompress.data.images import ImagesData
from edgecompress.processors.image import ImageProcessor
from edgecompress.stage import stage_class
from edgecompress.values import Candidate, Example

TIMED = 8
MB = 1e6


@dataclass
class Work:
    """Data and folders of one run."""

    place: Path
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    teacher: Candidate | None = None
    made: int = 0

    def apply(self, stage: str, candidate: Candidate, **fields: Any) -> Candidate:
        """Apply a stage."""
        self.made += 1
        folder = self.place / f"{self.made}-{stage}"
        for name in ("out", "scratch", "cache"):
            (folder / name).mkdir(parents=True)

        def cached(_: Any, build: Any) -> Path:
            build(folder / "cache")
            return folder / "cache"

        context = Context(
            folder=folder / "out", scratch=folder / "scratch", cached=cached, seed=7,
            train=self.train, validation=self.validation, teacher=self.teacher,
        )  # fmt: skip
        chosen: Any = stage_class(stage)(**fields)
        made: Candidate = chosen.apply(candidate, context)
        return made


def started(model: Path, side: int, place: Path, labels: list[str]) -> Candidate:
    """Give the classifier a head for these classes, and images of another size."""
    from edgecompress.training.heads import HeadRules
    from edgecompress.training.teacher import import_teacher

    shutil.copytree(model, place / "model")
    (place / "model").chmod(0o755)
    file = place / "model" / "preprocessor_config.json"
    file.chmod(0o644)
    settings = json.loads(file.read_text())
    settings |= {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    file.write_text(json.dumps(settings))
    rules = HeadRules(trained_later=True, renaming="new")
    return import_teacher(
        str(place / "model"), "image-classification", labels, place / "teacher", rules=rules
    )


def accuracy(work: Work, candidate: Candidate, module: Any) -> float:
    """Score a module on the test images."""
    from edgecompress.training.encoding import make_rows

    return make_rows(candidate, work.test, module).primary_score(module)


def theirs(work: Work, candidate: Candidate, macs: float) -> list[tuple[str, float, float]]:
    """Cut by Torch-Pruning down to a share of the multiply-accumulates."""
    try:
        torch_pruning = importlib.import_module("torch_pruning")
    except ImportError:
        return []
    import torch
    from torch import nn

    from edgecompress.surgery.model import load_module
    from edgecompress.training import batch_norms
    from edgecompress.training.encoding import make_rows

    class Logits(nn.Module):  # type: ignore[misc]
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return self.module(pixel_values).logits

    module = load_module(candidate.model)
    rows = make_rows(candidate, work.train[:256], module)
    images = rows.feed([0])["pixel_values"]
    whole, _ = torch_pruning.utils.count_ops_and_params(Logits(module), images)
    for ratio in np.arange(0.05, 0.9, 0.025):
        narrow = copy.deepcopy(module)
        heads = [one for one in narrow.modules() if isinstance(one, nn.Linear)]
        wrapped = Logits(narrow)
        torch_pruning.pruner.BasePruner(
            wrapped, images, importance=torch_pruning.importance.MagnitudeImportance(p=2),
            pruning_ratio=float(ratio), ignored_layers=heads[-1:],
            round_to=8,
        ).step()  # fmt: skip
        left, _ = torch_pruning.utils.count_ops_and_params(wrapped, images)
        if left <= macs * whole:
            break
    found = [("Torch-Pruning, cut only", left / whole, accuracy(work, candidate, narrow))]
    batch_norms.estimate_again(narrow, rows)
    found.append(("the same, norms measured", left / whole, accuracy(work, candidate, narrow)))
    return found


@click.command(help=__doc__)
@click.option("--model", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--side", default=64, help="Pixels that images are made.")
@click.option("--share", default=1.0, help="Of the training images that are used.")
@click.option("--epochs", default=4, help="Of fine-tuning, and of each healing.")
@click.option("--macs", multiple=True, default=[0.7, 0.5], help="Shares that are left.")
@click.option("--seconds", default=20.0, help="Of interleaved timing.")
def main(model: Path, data: Path, side: int, share: float, epochs: int, macs: tuple[float, ...],
         seconds: float) -> None:  # fmt: skip
    """Run."""
    from edgecompress.surgery.model import load_module
    from edgecompress.training.rows import sample

    config = ImagesData(root=str(data), train=["train"], test=["test"])
    examples, test = config.read("train"), tuple(config.read("test"))
    chosen = sample(examples, int(share * len(examples)), 7)
    held = sample(chosen, len(chosen) // 10, 7)
    kept = {id(one) for one in held}
    labels = sorted({str(one.target) for one in chosen})
    train = {"epochs": epochs, "learning_rate": 1e-3, "batch_size": 32}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        work = Work(place, tuple(one for one in chosen if id(one) not in kept), held, test)
        first = started(model, side, place, labels)
        whole = work.apply("finetune", first, **train)
        work = replace(work, teacher=whole)
        print(f"whole, in PyTorch: {accuracy(work, whole, load_module(whole.model)):.3f}")
        graphs = [("whole, fp32", work.apply("export", whole, exporter="dynamo"))]
        graphs.append(("whole, int8", work.apply("quantize.static", graphs[0][1])))
        print("\n| cut only | MACs left | top-1 |\n|---|--:|--:|")
        for left in macs:
            for title, there, score in theirs(work, whole, left):
                print(f"| {title} | {there:.3f} | {score:.3f} |")
            for importance in ("magnitude", "fisher"):
                cut = work.apply(
                    "prune.channels", whole, target={"macs": left}, importance=importance
                )
                score = accuracy(work, cut, load_module(cut.model))
                there = cut.steps[-1].decisions["left"]["macs"]
                print(f"| prune.channels, {importance} | {there:.3f} | {score:.3f} |", flush=True)
            healed = work.apply("distil", cut, **train)
            exported = work.apply("export", healed, exporter="dynamo")
            graphs.append((f"{left:.0%} of MACs, fp32", exported))
            integers = work.apply("quantize.static", exported)
            graphs.append((f"{left:.0%} of MACs, int8", integers))
        rows = [Row(title, one.model.path, []) for title, one in graphs]  # type: ignore[union-attr]
        size = rows[0].model.stat().st_size
        for row in rows:
            own = row.model.stat().st_size
            row.cells += [f"{own / MB:.2f}", f"{size / own:.2f}×"]
        assert whole.preprocessor is not None
        processor = ImageProcessor.load(whole.preprocessor)
        judged(rows, test, processor, whole.labels, 0)
        name = processor.input_names[0]
        feeds = [{name: processor.values(one.inputs["image"])[None]} for one in test[::TIMED]]
        timed(rows, feeds[:TIMED], place, seconds)
    heads = ["", "MB", "smaller", "top-1", "top-5", "top-1 lost", "(of three in four)", "ms, p50",
             "faster"]  # fmt: skip
    print("\n| " + " | ".join(heads) + " |\n|---|" + "--:|" * (len(heads) - 1))
    for row in rows:
        print("| " + " | ".join([row.title, *row.cells]) + " |")
    print(f"\n{len(work.train)} images trained, {len(test)} judged.")


if __name__ == "__main__":
    main()
