"""A convolutional network without a third and half of its channels, ours beside Torch-Pruning.

    python benchmarks/channels.py --model DIR --data DIR

`--model` is an image classifier of transformers, `--data` holds images in ``train/CLASS`` and
``test/CLASS``. The classifier is fine-tuned on them, on images of `--side` pixels. Then:

- `prune.channels` cuts it, with all layers ranked together and with the same share from every
  layer, fitted and not, and `distil` heals it. Beside it stand, at the same share of
  multiply-accumulates, Torch-Pruning, where it is installed (``pip install torch-pruning``;
  weights, its default), with and without batch normalizations that are measured anew, and, at the
  same share of weights, the zeros of `prune.magnitude`;
- what was healed is exported and quantized by `quantize.static`, and timed beside the whole model
  in fp32 and int8, inference by inference, on one thread.

A tenth of the training images chooses the best epochs; nothing is chosen by the test images.
With `--made` models stay there, so that `--only judge` and `--only race` can follow each other.
"""

from __future__ import annotations

import copy
import importlib
import itertools
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from images import MADE, Row, judged, show, sized, timed

from edgecompress.context import Context
from edgecompress.data.images import ImagesData
from edgecompress.processors.image import ImageProcessor
from edgecompress.stage import stage_class
from edgecompress.values import Candidate, Example

TIMED = 8


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


def made(
    work: Work, whole: Candidate, removed: Sequence[float], train: Mapping[str, Any]
) -> dict[str, Candidate]:
    """Cut, heal, export and quantize; print what PyTorch's models score. Gives the graphs."""
    from edgecompress.surgery.model import load_module

    def score(one: Candidate) -> str:
        return f"{100 * accuracy(work, one, load_module(one.model)):.1f}"

    def row(*cells: object) -> None:
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)

    graphs = {"whole, fp32": work.apply("export", whole, exporter="dynamo")}
    row("", "MACs left", "top-1, cut only", "top-1, distilled")
    row("---", "--:", "--:", "--:")
    row("whole", 1, score(whole), "")
    for share in removed:
        found: dict[tuple[str, bool], Candidate] = {}
        for scope, fit in itertools.product(("global", "layer"), (False, True)):
            cut = work.apply("prune.channels", whole, remove=share, scope=scope, reconstruct=fit)
            left = cut.steps[-1].decisions["left"]["macs"]
            found[scope, fit] = work.apply("distil", cut, **train)
            title = f"prune.channels, remove: {share}, scope: {scope}{', reconstruct' * fit}"
            row(title, f"{left:.3f}", score(cut), score(found[scope, fit]))
        for title, there, reached in theirs(work, whole, left):
            row(title, f"{there:.3f}", f"{100 * reached:.1f}", "")
        zeros = work.apply("prune.magnitude", whole, sparsity=share, matrices=("convolutions",))
        row(f"prune.magnitude, sparsity: {share}", 1, score(zeros),
            score(work.apply("distil", zeros, **train)))  # fmt: skip
        graphs[f"{share:.0%} of channels removed, fp32"] = work.apply(
            "export", found["global", False], exporter="dynamo"
        )
    whole_and_cut = {title.removesuffix("fp32"): one for title, one in graphs.items()}
    for title, one in whole_and_cut.items():
        graphs[f"{title}int8"] = work.apply("quantize.static", one)
    return graphs


@click.command(help=__doc__)
@click.option("--model", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--side", default=64, help="Pixels that images are made.")
@click.option("--share", default=1.0, help="Of the training images that are used.")
@click.option("--epochs", default=4, help="Of fine-tuning, and of each healing.")
@click.option("--rate", default=1e-3, help="Learning rate of both; few images want a smaller one.")
@click.option("--remove", multiple=True, default=[0.3, 0.5], help="Shares of channels. Repeatable.")
@click.option("--made", "kept", type=click.Path(path_type=Path), help="Where the models are kept.")
@click.option("--only", type=click.Choice(["judge", "race"]), help="One of both parts.")
@click.option("--seconds", default=20.0, help="Of interleaved timing.")
def main(model: Path, data: Path, side: int, share: float, epochs: int, rate: float,
         remove: tuple[float, ...], kept: Path | None, only: str | None,
         seconds: float) -> None:  # fmt: skip
    """Run."""
    from edgecompress.training.rows import sample

    config = ImagesData(root=str(data), train=["train"], test=["test"])
    examples, test = config.read("train"), tuple(config.read("test"))
    chosen = sample(examples, int(share * len(examples)), 7)
    held = sample(chosen, len(chosen) // 10, 7)
    apart = {id(one) for one in held}
    labels = sorted({str(one.target) for one in chosen})
    train = {"epochs": epochs, "learning_rate": rate, "batch_size": 32}
    with tempfile.TemporaryDirectory() as folder:
        place = kept or Path(folder)
        place.mkdir(exist_ok=True)
        work = Work(place, tuple(one for one in chosen if id(one) not in apart), held, test)
        if not (place / MADE).is_file():
            whole = work.apply("finetune", started(model, side, place, labels), **train)
            graphs = made(replace(work, teacher=whole), whole, remove, train)
            files = {title: str(one.model.path) for title, one in graphs.items()}  # type: ignore[union-attr]
            assert whole.preprocessor is not None
            document = {"models": files, "labels": whole.labels, "images": str(whole.preprocessor)}
            (place / MADE).write_text(json.dumps(document))
        there = json.loads((place / MADE).read_text())
        rows = [Row(title, Path(file), []) for title, file in there["models"].items()]
        processor = ImageProcessor.load(Path(there["images"]))
        heads = sized(rows)
        if only != "race":
            heads += judged(rows, test, processor, there["labels"], 0)
            heads[-1] = "(of three in four)"  # the test images calibrate nothing here
        if only != "judge":
            name = processor.input_names[0]
            some = test[:: len(test) // TIMED][:TIMED]
            feeds = [{name: processor.values(one.inputs["image"])[None]} for one in some]
            heads += timed(rows, feeds, Path(folder), seconds)
    show(heads, rows)
    print(f"\n{len(work.train)} images trained, {len(test)} judged.")


if __name__ == "__main__":
    main()
