"""A convolutional network at a share of its multiply-accumulates, ours beside Torch-Pruning.

    python benchmarks/channels.py --model DIR --data DIR --macs 0.5

`--model` is an image classifier of transformers, `--data` holds images in ``train/CLASS`` and
``test/CLASS``. The classifier is fine-tuned on them, on images of `--side` pixels. Then, down to
the same share of multiply-accumulates, counted by the same function:

- `prune.channels` cuts it, with all layers ranked together and with the same share from every
  layer, and fits what is left;
- Torch-Pruning does, where it is installed (``pip install torch-pruning``), by the size of weights,
  its default, and by its Taylor expansion on as many images as ours sees, with the same share from
  every layer and, by Taylor, over all layers; rounded to 8 channels as ours is, and with batch
  normalizations that are measured anew, which it leaves to its user.

Each cut is healed by the same `distil`, with the same seed. Of ours and of theirs the one that does
best on a tenth of the training images is exported, and quantized by `quantize.static`, and timed
beside the whole model in fp32 and int8, inference by inference, on one thread. The test images
choose nothing. With `--made` models stay there, so that `--only make`, `--only judge` and `--only
race` can follow each other.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from images import MADE, Row, judged, show, sized, timed

from edgecompress.context import Context
from edgecompress.data.images import ImagesData
from edgecompress.processors.image import ImageProcessor
from edgecompress.stage import stage_class
from edgecompress.values import Candidate, Example, TorchModel

TIMED = 8
"""Images that are timed in turns."""
SAMPLES = 256
"""Training images that importance is estimated on, and batch normalizations are measured on."""
ROUND = 8
"""Layers keep a multiple of so many channels."""
HALVINGS = 9
"""Ratios that are tried until Torch-Pruning leaves the multiply-accumulates that are asked for."""


@dataclass
class Work:
    """Data and folders of one run."""

    place: Path
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
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


def accuracy(examples: Sequence[Example], candidate: Candidate) -> float:
    """Score a model of PyTorch."""
    from edgecompress.surgery.model import load_module
    from edgecompress.training.encoding import make_rows

    module = load_module(candidate.model)
    return make_rows(candidate, examples, module).primary_score(module)


def macs_of(module: Any, feed: Any) -> float:
    """Count the multiply-accumulates of one input."""
    from edgecompress.surgery.channels.groups import channel_graph

    graph = channel_graph(module, feed)
    return graph.cost("macs", [group.size for group in graph.groups])


def torch_pruned(module: Any, images: Any, ratio: float, taylor: bool, everywhere: bool) -> Any:
    """Cut a copy of a module by Torch-Pruning; for `taylor` it holds gradients."""
    import torch
    from torch import nn

    torch_pruning = importlib.import_module("torch_pruning")

    class Logits(nn.Module):  # type: ignore[misc]
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return self.module(pixel_values).logits

    narrow = copy.deepcopy(module)
    for there, here in zip(module.parameters(), narrow.parameters(), strict=True):
        here.grad = None if there.grad is None else there.grad.clone()
    kind = torch_pruning.importance
    torch_pruning.pruner.BasePruner(
        Logits(narrow), images, round_to=ROUND, pruning_ratio=ratio, global_pruning=everywhere,
        importance=kind.TaylorImportance() if taylor else kind.MagnitudeImportance(p=2),
        ignored_layers=[one for one in narrow.modules() if isinstance(one, nn.Linear)][-1:],
    ).step()  # fmt: skip
    return narrow


def theirs(work: Work, whole: Candidate, macs: float) -> Iterator[tuple[str, Candidate, float]]:
    """Cut by Torch-Pruning to a share of the multiply-accumulates, as near as rounding lets it.

    Gives what was done, the model, and the share that is left.
    """
    if importlib.util.find_spec("torch_pruning") is None:
        return
    from edgecompress.surgery.model import load_module, save_module
    from edgecompress.training import batch_norms
    from edgecompress.training.encoding import labelled_rows
    from edgecompress.training.losses import task_loss

    module = load_module(whole.model)
    rows = labelled_rows(whole, work.train[:SAMPLES], module)
    batch_norms.measure_inputs(module, rows)  # some hold 0 and 1; the model computes what it did
    feed = rows.feed([0, 1])
    for numbers in rows.batches:
        loss = task_loss(rows.task, module(**rows.feed(numbers)), rows.taught(numbers))
        (loss * len(numbers) / len(rows)).backward()
    everything = macs_of(module, feed)
    for title, taylor, everywhere in (
        ("magnitude, every layer alike", False, False),
        ("Taylor, every layer alike", True, False),
        ("Taylor, over all layers", True, True),
    ):
        tried: list[tuple[float, float, Any]] = []
        low, high = 0.0, 0.95
        for _ in range(HALVINGS):
            ratio = (low + high) / 2
            narrow = torch_pruned(module, feed["pixel_values"], ratio, taylor, everywhere)
            left = macs_of(narrow, feed) / everything
            tried.append((abs(left - macs), left, narrow))
            low, high = (ratio, high) if left > macs else (low, ratio)
        _, left, narrow = min(tried, key=lambda one: one[0])
        narrow.zero_grad()
        batch_norms.estimate_again(narrow, rows)
        folder = work.place / f"theirs-{macs:g}-{title.replace(' ', '-')}"
        yield f"Torch-Pruning, {title}", whole.with_model(save_module(narrow, folder)), left


def ours(work: Work, whole: Candidate, macs: float) -> Iterator[tuple[str, Candidate, float]]:
    """Cut by `prune.channels`; gives as `theirs` does."""
    for scope in ("global", "layer"):
        cut = work.apply(
            "prune.channels", whole, target={"macs": macs}, scope=scope, reconstruct=True,
            samples=SAMPLES, multiple_of=ROUND,
        )  # fmt: skip
        left = float(cut.steps[-1].decisions["left"]["macs"])
        yield f"prune.channels, scope: {scope}, reconstruct", cut, left


def made(
    work: Work, whole: Candidate, shares: Sequence[float], train: Mapping[str, Any]
) -> dict[str, Candidate]:
    """Cut, heal, export and quantize; print what PyTorch's models score. Gives the graphs."""

    def row(*cells: object) -> None:
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)

    def score(one: Candidate) -> str:
        return f"{100 * accuracy(work.validation, one):.1f}"

    found = {"whole": whole}
    row("", "MACs left", "top-1 of validation, cut only", "distilled")
    row("---", "--:", "--:", "--:")
    row("whole", 1, score(whole), "")
    for share in shares:
        for whose, cuts in (("ours", ours), ("Torch-Pruning", theirs)):
            best = -1.0
            for title, cut, left in cuts(work, whole, share):
                healed = work.apply("distil", cut, **train)
                reached = accuracy(work.validation, healed)
                row(title, f"{left:.3f}", score(cut), f"{100 * reached:.1f}")
                if reached > best:
                    best, found[f"{share:g} of the MACs, {whose}"] = reached, healed
    graphs = {
        f"{title}, fp32": work.apply("export", one, exporter="dynamo")
        for title, one in found.items()
    }
    for title in found:
        graphs[f"{title}, int8"] = work.apply("quantize.static", graphs[f"{title}, fp32"])
    return graphs


@click.command(help=__doc__)
@click.option("--model", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--side", default=64, help="Pixels that images are made.")
@click.option("--share", default=1.0, help="Of the training images that are used.")
@click.option("--epochs", default=10, help="Of fine-tuning, and of each healing.")
@click.option("--tuned", type=click.Path(path_type=Path, exists=True), help="Fine-tuned before.")
@click.option("--rate", default=3e-4, help="Learning rate of both; few images want a smaller one.")
@click.option("--macs", multiple=True, default=[0.5, 0.25], help="Shares that stay. Repeatable.")
@click.option("--made", "kept", type=click.Path(path_type=Path), help="Where the models are kept.")
@click.option("--only", type=click.Choice(["make", "judge", "race"]), help="One part.")
@click.option("--seconds", default=20.0, help="Of interleaved timing.")
def main(model: Path, data: Path, side: int, share: float, epochs: int, tuned: Path | None,
         rate: float, macs: tuple[float, ...], kept: Path | None, only: str | None,
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
        work = Work(place, tuple(one for one in chosen if id(one) not in apart), held)
        if not (place / MADE).is_file():
            whole = started(model, side, place, labels)
            whole = (
                replace(whole, model=TorchModel(tuned))
                if tuned
                else work.apply("finetune", whole, **train)
            )
            graphs = made(replace(work, teacher=whole), whole, macs, train)
            files = {title: str(one.model.path) for title, one in graphs.items()}  # type: ignore[union-attr]
            assert whole.preprocessor is not None
            document = {"models": files, "labels": whole.labels, "images": str(whole.preprocessor)}
            (place / MADE).write_text(json.dumps(document))
        there = json.loads((place / MADE).read_text())
        rows = [Row(title, Path(file), []) for title, file in there["models"].items()]
        processor = ImageProcessor.load(Path(there["images"]))
        heads = sized(rows)
        if only in (None, "judge"):
            heads += judged(rows, test, processor, there["labels"], 0)
            heads[-1] = "(of three in four)"  # the test images calibrate nothing here
        if only in (None, "race"):
            name = processor.input_names[0]
            some = test[:: len(test) // TIMED][:TIMED]
            feeds = [{name: processor.values(one.inputs["image"])[None]} for one in some]
            heads += timed(rows, feeds, Path(folder), seconds)
    show(heads, rows)
    print(f"\n{len(work.train)} images trained, {len(test)} judged.")


if __name__ == "__main__":
    main()
