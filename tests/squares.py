"""Pictures with red and green squares, and a YOLO made by hand that finds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from edgecompress.boxes import Objects
from edgecompress.tasks import Row
from edgecompress.values import Example

COLOURS = ("green", "red")
SIDE, CELL = 64, 16
"""Of a picture and of a square, which stands in one of 16 places."""


def scene(random: np.random.Generator) -> tuple[np.ndarray, Objects]:
    """Give uint8 (64, 64, 3) and its one to three squares."""
    values = random.integers(0, 40, (SIDE, SIDE, 3))
    places = random.choice((SIDE // CELL) ** 2, random.integers(1, 4), replace=False)
    labels, corners = [], []
    for place in places.tolist():
        top, left = divmod(place, SIDE // CELL)
        label = COLOURS[int(random.integers(2))]
        values[top * CELL :, left * CELL :][:CELL, :CELL, 1 - COLOURS.index(label)] = 230
        labels.append(label)
        box = (left * CELL, top * CELL, (left + 1) * CELL, (top + 1) * CELL)
        corners.append(tuple(map(float, box)))
    objects = Objects(tuple(labels), tuple(corners), (False,) * len(labels))
    return values.astype(np.uint8), objects


def scenes(count: int, seed: int = 0) -> tuple[Example, ...]:
    """Give examples as arrays."""
    random = np.random.default_rng(seed)
    made = (scene(random) for _ in range(count))
    return tuple(Example({"image": values}, objects) for values, objects in made)


def perfect(row: Row) -> np.ndarray:
    """Give what a detector would say that is right."""
    labels = row.target["labels"]
    return np.concatenate((labels[:, 1:], np.eye(2)[labels[:, 0].astype(int)]), axis=1)


def write_yolo(folder: Path, splits: dict[str, int], seed: int = 0) -> Path:
    """Write images and labels as Ultralytics wants them."""
    from PIL import Image

    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(COLOURS))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.yaml").write_text(f"names:\n{names}")
    for place, (split, count) in enumerate(splits.items()):
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True)
        for number, example in enumerate(scenes(count, seed + place)):
            Image.fromarray(example.inputs["image"]).save(
                folder / "images" / split / f"{number}.png"
            )
            objects: Objects = example.target
            lines = [
                f"{COLOURS.index(label)} {(a + c) / 2 / SIDE} {(b + d) / 2 / SIDE} "
                f"{(c - a) / SIDE} {(d - b) / SIDE}\n"
                for label, (a, b, c, d) in zip(objects.labels, objects.corners, strict=True)
            ]
            (folder / "labels" / split / f"{number}.txt").write_text("".join(lines))
    return folder


def write_detector(file: Path, batch: str | int = "batch") -> Path:
    """Write a YOLO of one anchor, with the raw map (batch, 7, 4, 4); boxes are whole cells."""
    random = np.random.default_rng(1)
    first = random.uniform(-0.02, 0.02, (6, 3, 4, 4)).astype(np.float32)
    for place in range(6):
        first[place, place % 3] += 0.06
    second = np.zeros((7, 6, 4, 4), np.float32)
    for place, (red, green, blue) in {
        4: (24, 24, -24), 5: (-20, 20, 0), 6: (20, -20, 0),
    }.items():  # fmt: skip
        for channel, weight in enumerate((red, green, blue) * 2):
            second[place, channel] = weight / 32
    bias = np.array([0, 0, 0, 0, -12, 0, 0], np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "first"], ["a"], "stem", strides=[4, 4]),
        helper.make_node("LeakyRelu", ["a"], ["b"], "leaky", alpha=0.1),
        helper.make_node("Conv", ["b", "second", "bias"], ["map"], "head", strides=[4, 4]),
    ]
    weights = {"first": first, "second": second, "bias": bias}
    graph = helper.make_graph(
        nodes, "squares",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [batch, 7, 4, 4])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
    return file


PREPROCESSOR: dict[str, Any] = {
    "size": SIDE, "letterbox": 0, "do_normalize": False,
    "detector": {"decoding": "yolov3", "anchors": [[[CELL, CELL]]]},
}  # fmt: skip


def write_yolos(folder: Path, seed: int = 2) -> None:
    """Write a YOLOS of random weights, with its image processor."""
    _write_checkpoint(folder, "Yolos", seed, {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "image_size": [SIDE, SIDE], "patch_size": CELL,
        "num_detection_tokens": 6, "use_mid_position_embeddings": False,
    })  # fmt: skip


def write_detr(folder: Path, seed: int = 2) -> None:
    """Write a DETR of random weights over a small ResNet."""
    import transformers

    resnet = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 16, 32, 32], depths=[1] * 4, layer_type="basic",
        out_features=["stage4"],
    )  # fmt: skip
    _write_checkpoint(folder, "Detr", seed, {
        "backbone_config": resnet, "use_timm_backbone": False,
        "use_pretrained_backbone": False, "backbone": None, "d_model": 32, "num_queries": 6,
        **{f"{part}_{name}": count for part in ("encoder", "decoder")
           for name, count in (("layers", 1), ("attention_heads", 4), ("ffn_dim", 32))},
    })  # fmt: skip


def write_rt_detr(folder: Path, seed: int = 2) -> None:
    """Write an RT-DETR of random weights: its queries are the places with the highest scores."""
    import transformers

    widths = [32, 32]
    resnet = transformers.RTDetrResNetConfig(
        embedding_size=16, hidden_sizes=[16, 16, *widths], depths=[1] * 4, layer_type="basic",
        out_features=["stage3", "stage4"],
    )  # fmt: skip
    _write_checkpoint(folder, "RTDetr", seed, {
        "backbone_config": resnet, "use_timm_backbone": False,
        "use_pretrained_backbone": False, "backbone": None, "d_model": 32, "num_queries": 6,
        "encoder_hidden_dim": 32, "encoder_in_channels": widths, "decoder_in_channels": [32] * 2,
        "feat_strides": [16, 32], "encode_proj_layers": [1], "num_feature_levels": 2,
        "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "decoder_layers": 1, "num_denoising": 4,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "decoder_n_points": 2,
    })  # fmt: skip


def _write_checkpoint(folder: Path, kind: str, seed: int, fields: dict[str, Any]) -> None:
    import torch
    import transformers

    torch.manual_seed(seed)
    config = getattr(transformers, f"{kind}Config")(**fields, id2label=dict(enumerate(COLOURS)))
    module = getattr(transformers, f"{kind}ForObjectDetection")(config)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.2)
    module.save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    processor = {"image_processor_type": f"{kind}ImageProcessor", "size": size}
    processor["detector"] = {"threshold": 0.1}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def write_coco(folder: Path, count: int, seed: int = 0) -> Path:
    """Write ``photos`` and ``boxes.json``; the first object of an image in three is a crowd."""
    from PIL import Image

    (folder / "photos").mkdir(parents=True)
    categories = [{"id": 10 * n, "name": name} for n, name in enumerate(COLOURS, start=1)]
    images, annotations = [], []
    for number, example in enumerate(scenes(count, seed), start=1):
        Image.fromarray(example.inputs["image"]).save(folder / "photos" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png"})
        objects: Objects = example.target
        for place, (label, (a, b, c, d)) in enumerate(
            zip(objects.labels, objects.corners, strict=True)
        ):
            annotations.append({
                "id": len(annotations), "image_id": number, "bbox": [a, b, c - a, d - b],
                "category_id": 10 * (1 + COLOURS.index(label)),
                "iscrowd": int(place == 0 and number % 3 == 0),
            })  # fmt: skip
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(document))
    return folder


def write_voc(folder: Path, count: int, seed: int = 0) -> Path:
    """Write ``JPEGImages``, ``Annotations`` and ``train.txt``."""
    from PIL import Image

    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True)
    for number, example in enumerate(scenes(count, seed)):
        Image.fromarray(example.inputs["image"]).save(folder / "JPEGImages" / f"{number}.jpg")
        objects: Objects = example.target
        inner = "".join(
            f"<object><name>{label}</name><difficult>{int(left == 0)}</difficult><bndbox>"
            f"<xmin>{left:g}</xmin><ymin>{top:g}</ymin><xmax>{right:g}</xmax><ymax>{bottom:g}"
            "</ymax></bndbox></object>"
            for label, (left, top, right, bottom) in zip(
                objects.labels, objects.corners, strict=True
            )
        )
        file = folder / "Annotations" / f"{number}.xml"
        file.write_text(f"<annotation><size/>{inner}</annotation>")
    (folder / "train.txt").write_text("".join(f"{number}  1\n" for number in range(count)))
    return folder
