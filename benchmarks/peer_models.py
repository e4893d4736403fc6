"""The four models of ``peers.py`` as ONNX files, with inputs to calibrate, to time and to judge on.

A CNN (trained here on the images given, for a minute or two), a ViT and a GPT-2 of random weights,
and the fine-tuned BERT given. Calibration samples come from training data, all others do not.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from edgecompress.engine.recipe import load_recipe

Feed = dict[str, np.ndarray]
Judge = Callable[[Sequence[np.ndarray]], float]
CALIBRATION, TIMED, JUDGED = 64, 40, 32
RECIPE = Path(__file__).parent.parent / "models" / "masakhaner-minilm.yaml"
OPSET = 18
VOCABULARY = 50257
EXPORTED = "exported.txt"
"""Beside a model: by what it was exported."""
NAMES = {"optimum": "Optimum's export", "dynamo": "plain dynamo export"}


@dataclass(frozen=True)
class Subject:
    """A model with its inputs.

    Attributes
    ----------
    title : str
    folder : Path
        Holds ``model.onnx``, and the ``config.json`` of a transformer.
    calibration, timed, judged : list of dict
        Inputs of one inference each, batch axis included.
    exported : str
        By what the model was exported.
    metric : str
        What `judge` gives; empty where there are no labels.
    judge : callable or None
        Given the outputs for `judged`, in their order.
    """

    title: str
    folder: Path
    calibration: list[Feed]
    timed: list[Feed]
    judged: list[Feed]
    exported: str
    metric: str = ""
    judge: Judge | None = None


@dataclass(frozen=True)
class Given:
    """What the command line gave: a checkpoint, the root of its data, a zip of labelled images."""

    model: str | None
    data: str | None
    images: Path | None


def read_images(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read ``train/CLASS/NAME`` of a zip: uint8 (images, height, width, 3) and class numbers."""
    from PIL import Image

    with zipfile.ZipFile(file) as stored:
        names = sorted(n for n in stored.namelist() if n.startswith("train/") and n[-1] != "/")
        if not names:
            raise SystemExit(f"{file} holds no train/CLASS/NAME")
        pixels = [np.asarray(Image.open(io.BytesIO(stored.read(n))).convert("RGB")) for n in names]
    classes = [name.split("/")[1] for name in names]
    known = sorted(set(classes))
    order = np.random.default_rng(0).permutation(len(names))
    return np.stack(pixels)[order], np.array([known.index(c) for c in classes])[order]


def made_up_images(count: int, size: int) -> np.ndarray:
    """Make smooth pictures of coloured noise, uint8 (count, size, size, 3)."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    return resized(coarse, size)


def resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """Give uint8 (images, size, size, 3), bicubic."""
    from PIL import Image

    large = [Image.fromarray(x).resize((size, size), Image.Resampling.BICUBIC) for x in pixels]
    return np.stack([np.asarray(each) for each in large])


def normalized(pixels: np.ndarray) -> np.ndarray:
    """Give float32 (images, 3, height, width) between -1 and 1."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32) / 127.5 - 1


def rows(name: str, values: np.ndarray) -> list[Feed]:
    """Give one feed for each row."""
    return [{name: values[k : k + 1]} for k in range(len(values))]


def export(module: Any, folder: Path, task: str, feed: Feed) -> None:
    """Export a transformer beside its configuration, with Optimum where it is installed."""
    import torch

    from edgecompress.quantization.graphs.exporting import export_graph
    from edgecompress.surgery.dynamo_export import Traced
    from edgecompress.surgery.onnx_export import choose_exporter

    free = {0: "batch_size"} | ({} if "pixel_values" in feed else {1: "sequence_length"})
    example = {name: torch.from_numpy(np.repeat(value, 2, 0)) for name, value in feed.items()}
    traced = Traced(example, dict.fromkeys(feed, free), ("logits",))
    aside = folder / "exported"
    exporter = choose_exporter(module, task)
    export_graph(module, task, aside / "model.onnx", exporter, OPSET, traced)
    for file in aside.iterdir():
        file.rename(folder / file.name)
    aside.rmdir()
    module.config.save_pretrained(folder)
    (folder / EXPORTED).write_text(NAMES[exporter])


def make_cnn(folder: Path, given: Given) -> Subject:
    """Train and export a small residual network for 32 × 32 pixels."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, before: int, width: int, stride: int) -> None:
            super().__init__()
            self.path = nn.Sequential(
                nn.Conv2d(before, width, 3, stride, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, 1, 1, bias=False),
                nn.BatchNorm2d(width),
            )
            self.short = nn.Sequential()
            if before != width or stride != 1:
                self.short = nn.Sequential(
                    nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width)
                )

        def forward(self, x: Any) -> Any:
            return torch.relu(self.path(x) + self.short(x))

    widths = (32, 64, 128, 256)
    blocks = [Block(32, 32, 1)]
    for before, width in pairwise(widths):
        blocks += [Block(before, width, 2), Block(width, width, 1)]
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3, 1, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(256, 10),
    )
    labels: np.ndarray | None = None
    if given.images is not None:
        pixels, labels = read_images(given.images)
    else:
        pixels = made_up_images(CALIBRATION + TIMED, 32)
    held = 1000 if labels is not None else TIMED
    values = normalized(pixels)
    if labels is not None and not (folder / "model.onnx").exists():
        train(net, torch.from_numpy(values[held:]), torch.from_numpy(labels[held:]))
    if not (folder / "model.onnx").exists():
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                net.eval(),
                (torch.from_numpy(values[:2]),),
                folder / "model.onnx",
                input_names=["pixel_values"],
                output_names=["logits"],
                opset_version=OPSET,
                dynamo=False,
                dynamic_axes={"pixel_values": {0: "batch_size"}, "logits": {0: "batch_size"}},
            )
    feeds = rows("pixel_values", values)
    judged, truth = feeds[:held], labels

    def accuracy(outputs: Sequence[np.ndarray]) -> float:
        assert truth is not None
        right = [o[0].argmax() == t for o, t in zip(outputs, truth[:held], strict=True)]
        return 100 * float(np.mean(right))

    trained = labels is not None
    return Subject(
        f"CNN, 7 residual blocks, 32 × 32, {'trained' if trained else 'random weights'}",
        folder, feeds[held : held + CALIBRATION], judged[:TIMED], judged, "PyTorch's export",
        "accuracy, %" if trained else "", accuracy if trained else None,
    )  # fmt: skip


def train(net: Any, values: Any, labels: Any, epochs: int = 12, batch: int = 64) -> None:
    """Train with Nesterov momentum on a one-cycle schedule; mirrored and shifted images."""
    import torch
    from torch.nn.functional import cross_entropy, pad

    from edgecompress.training.devices import autocast

    generator = torch.Generator().manual_seed(0)
    rounds = len(values) // batch
    optimizer = torch.optim.SGD(net.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, epochs * rounds)
    net.train().to(memory_format=torch.channels_last)
    for _ in range(epochs):
        order = torch.randperm(len(values), generator=generator)
        for picked in order[: rounds * batch].split(batch):
            right, down = torch.randint(0, 5, (2,), generator=generator).tolist()
            images = pad(values[picked], (2, 2, 2, 2))[:, :, down : down + 32, right : right + 32]
            mirrored = torch.rand(batch, generator=generator) < 0.5
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
            with autocast():
                logits = net(images.contiguous(memory_format=torch.channels_last))
            loss = cross_entropy(logits.float(), labels[picked], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.to(memory_format=torch.contiguous_format)


def make_vit(folder: Path, given: Given) -> Subject:
    """Export a ViT of 6 layers, 384 wide, for 224 × 224 pixels; random weights."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    total = CALIBRATION + JUDGED
    if given.images is not None:
        pixels = resized(read_images(given.images)[0][:total], 224)
    else:
        pixels = made_up_images(total, 224)
    feeds = rows("pixel_values", normalized(pixels))
    if not (folder / "model.onnx").exists():
        torch.manual_seed(0)
        config = ViTConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=6,
                           intermediate_size=1536, num_labels=1000)  # fmt: skip
        module = ViTForImageClassification._from_config(config, attn_implementation="eager")
        export(module.eval(), folder, "image-classification", feeds[0])
    held = feeds[:JUDGED]
    title = "ViT, 6 layers of 384, 224 × 224, random weights"
    return Subject(title, folder, feeds[JUDGED:], held[:16], held, exported(folder))


def make_gpt2(folder: Path, given: Given) -> Subject:  # noqa: ARG001
    """Export a GPT-2 of 6 layers, 384 wide, without a cache of keys; random weights."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    random = np.random.default_rng(0)
    feeds = []
    for _ in range(CALIBRATION + JUDGED):
        ids = np.minimum(random.zipf(1.3, (1, int(random.integers(16, 97)))), VOCABULARY) - 1
        place = np.arange(ids.shape[1], dtype=np.int64)[None]
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": place}
        feeds.append(feed)
    if not (folder / "model.onnx").exists():
        torch.manual_seed(0)
        config = GPT2Config(n_embd=384, n_layer=6, n_head=6, vocab_size=VOCABULARY, use_cache=False)
        module = GPT2LMHeadModel._from_config(config, attn_implementation="eager")
        export(module.eval(), folder, "text-generation", feeds[0])
    title = f"GPT-2, 6 layers of 384, {VOCABULARY:,} pieces, 16–96 tokens, random weights"
    held = feeds[:JUDGED]
    return Subject(title, folder, feeds[JUDGED:], held, held, exported(folder))


def make_bert(folder: Path, given: Given) -> Subject:
    """Export the checkpoint given; accuracy is that of its task on all validation examples."""
    from bare import bare_context

    from edgecompress.models.inputs import encode_rows, typed_feed
    from edgecompress.models.session import input_specs, open_session
    from edgecompress.stages.export import Export
    from edgecompress.targets.inputs import spread
    from edgecompress.training.teacher import import_teacher
    from edgecompress.values import OnnxModel

    if given.model is None:
        raise SystemExit("BERT needs --model (a checkpoint) and --data (the root of its data)")
    settings = [f"teacher.model={given.model}"]
    found = load_recipe(RECIPE, settings + ([f"data.root={given.data}"] if given.data else []))
    if found.data is None:
        raise SystemExit("the recipe names no data")
    training, validation = found.data.read("train"), found.data.read("validation")
    with tempfile.TemporaryDirectory(prefix="edgecompress-peers-") as name:
        place = Path(name)
        teacher = import_teacher(given.model, str(found.fields.task), None, place / "teacher")
        plain = Export(opset=OPSET).apply(teacher, bare_context(place / "fp32", (), validation[:8]))
        assert isinstance(plain.model, OnnxModel)
        if not (folder / "model.onnx").exists():
            shutil.copy(plain.model.path, folder / "model.onnx")
            shutil.copy(Path(given.model) / "config.json", folder)
            (folder / EXPORTED).write_text(NAMES[plain.steps[-1].decisions["exporter"]])
        specs = input_specs(open_session(plain.model))
        few = training[:: len(training) // CALIBRATION][:CALIBRATION]
        learned, judged = encode_rows(plain, few), encode_rows(plain, validation)
    assert learned is not None and judged is not None

    def primary(outputs: Sequence[np.ndarray]) -> float:
        answers = judged.task.decode([o[0] for o in outputs], judged)
        return 100 * judged.task.quality(answers, validation, plain.labels)

    feeds = [typed_feed(judged, [k], specs) for k in range(len(judged.lengths))]
    return Subject(
        f"BERT, the checkpoint given, {len(validation)} validation sentences",
        folder,
        [typed_feed(learned, [k], specs) for k in range(len(learned.lengths))],
        [feeds[k] for k in spread([_tokens(feed) for feed in feeds], TIMED)],
        feeds,
        exported(folder),
        f"{judged.task.metrics[0].name}, %",
        primary,
    )


def exported(folder: Path) -> str:
    """Say by what the model of a folder was exported; a folder of older days does not know."""
    file = folder / EXPORTED
    return file.read_text() if file.exists() else "—"


def _tokens(feed: Mapping[str, np.ndarray]) -> int:
    return int(feed["input_ids"].shape[1])


MAKERS: dict[str, Callable[[Path, Given], Subject]] = {
    "cnn": make_cnn,
    "vit": make_vit,
    "bert": make_bert,
    "gpt2": make_gpt2,
}
