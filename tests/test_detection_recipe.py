"""A detector through a whole recipe: opened or taught, made smaller, and asked."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml
from commands import in_process
from helpers import small_context
from serving import running
from squares import (
    COLOURS,
    PREPROCESSOR,
    SIDE,
    scenes,
    write_detector,
    write_detr,
    write_rt_detr,
    write_yolo,
    write_yolos,
)

import edgecompress
from edgecompress.stage import stage_class
from edgecompress.training.teacher import import_teacher
from edgecompress.values import Candidate

PROFILE = {
    "min_duration_ms": 100, "warmup_ms": 0, "max_warmup_ms": 50, "min_count": 20,
    "cold_starts": 0, "attempts": 1,
}  # fmt: skip
RECIPE: dict[str, Any] = {
    "name": "squares", "task": "object-detection", "model": "detector.onnx",
    "labels": list(COLOURS), "preprocessor": PREPROCESSOR,
    "data": {"format": "yolo", "root": "yard", "train": "images/train",
             "validation": "images/val", "test": "images/test"},
    "stages": ["quantize.static"], "profile": PROFILE, "minimize": "size",
    "budget": {"map": {"max_drop": 0.05}},
}  # fmt: skip


def run(folder: Path, recipe: dict[str, Any], out: str = "out") -> Any:
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return in_process("run", "recipe.yaml", "-o", out, "--store", "store", cwd=folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where the recipe was run."""
    folder = tmp_path_factory.mktemp("squares")
    write_detector(folder / "detector.onnx")
    write_yolo(folder / "yard", {"train": 24, "val": 12, "test": 12})
    done = run(folder, RECIPE)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_graph_finds_all_squares_also_in_int8(made: Path) -> None:
    result = json.loads((made / "out" / "results.json").read_text())
    rows = {row["name"]: row for row in result["rows"]}
    found = {
        (one["metric"], one["slice"]): one["value"]
        for one in rows[result["winner"]]["measurements"]
        if one["split"] == "test"
    }
    assert found[("map50", None)] > 0.95 and found[("map", None)] > 0.9
    assert {f"label:{name}" for name in COLOURS} <= {part for _, part in found}
    assert found[("map_over_floor", None)] > 0.5


def test_boxes_are_decoded_in_floats(made: Path) -> None:
    graph = onnx.load(made / "out" / "bundle" / "model.onnx").graph
    behind = [node for node in graph.node if node.name.startswith("edgecompress_detections_")]
    assert {"Sigmoid", "Exp", "Concat"} <= {node.op_type for node in behind}
    read_by = {name: node for node in graph.node for name in node.input}
    moving = ("Reshape", "Transpose")  # the map as the last convolution gives it
    for node in behind:
        if node.op_type not in (*moving, "QuantizeLinear", "DequantizeLinear"):
            reader = read_by.get(node.output[0])
            assert reader is None or reader.op_type != "QuantizeLinear", node.name
    assert any(node.op_type == "QuantizeLinear" for node in graph.node)


def test_a_bundle_says_what_it_found(made: Path) -> None:
    photo = made / "yard" / "images" / "test" / "0.png"
    said = edgecompress.load(made / "out" / "bundle").answer(str(photo)).said
    lines = (made / "yard" / "labels" / "test" / "0.txt").read_text().splitlines()
    assert len(said["objects"]) == len(lines)
    marked = set()
    for line in lines:
        kind, x, y, _, _ = line.split()
        marked.add((COLOURS[int(kind)], round(float(x) * SIDE), round(float(y) * SIDE)))
    for one in said["objects"]:
        box = one["box"]
        centre = (box["xmin"] + box["xmax"]) / 2, (box["ymin"] + box["ymax"]) / 2
        near = min(marked, key=lambda each: abs(each[1] - centre[0]) + abs(each[2] - centre[1]))
        assert near[0] == one["label"] and abs(near[1] - centre[0]) + abs(near[2] - centre[1]) < 4
    done = in_process("predict", str(made / "out" / "bundle"), str(photo))
    assert done.returncode == 0 and all(name in done.stdout for name, _, _ in marked)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": ["green"]}, "none of 1 anchors and 6 numbers"),
        ({"preprocessor": {**PREPROCESSOR, "detector": {"outputs": ["boxes"]}}},
         "the graph has no output 'boxes'"),
        ({"preprocessor": {**PREPROCESSOR, "letterbox": 300}}, "letterbox must be a grey"),
        ({"preprocessor": {**PREPROCESSOR, "size": {"shortest_edge": 64}, "letterbox": None}},
         "keep their proportions"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_and_nothing_is_written(
    change: dict[str, Any], said: str, made: Path
) -> None:
    done = run(made, {**RECIPE, **change}, "other")
    assert done.returncode in (1, 2) and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not (made / "other" / "bundle").exists()


def test_a_detector_of_transformers_is_taught_and_exported(tmp_path: Path) -> None:
    """By transformers' own loss; the export compares ONNX Runtime's boxes with PyTorch's."""
    import torch

    from edgecompress.surgery.model import load_module
    from edgecompress.tasks import load_processor, task

    write_yolos(tmp_path / "yolos")
    examples, kind = scenes(16), task("object-detection")
    given = import_teacher(str(tmp_path / "yolos"), kind.name, COLOURS, tmp_path / "teacher")
    data = {"train": examples, "validation": examples[:4]}
    context = small_context(tmp_path / "taught", **data)
    tuning = stage_class("finetune")(epochs=2, learning_rate=2e-3, batch_size=8)
    taught = tuning.apply(given, context)
    rows = kind.rows(examples, load_processor(kind.name, given.preprocessor), COLOURS)
    right = {name: torch.from_numpy(one) for name, one in rows.targets(range(16)).items()}
    feed = rows.batch(range(16), ["pixel_values"])
    feed_all = {name: torch.from_numpy(one) for name, one in feed.items()}
    given_all = feed_all | kind.told(right)

    def loss(of: Candidate) -> float:
        with torch.no_grad():
            return float(load_module(of.model)(**given_all).loss)

    assert loss(taught) < 0.95 * loss(given)
    distil = stage_class("distil")(epochs=2, learning_rate=2e-3, batch_size=8, label_weight=0)
    student = distil.apply(given, small_context(tmp_path / "distilled", teacher=taught, **data))

    def apart(of: Candidate) -> float:
        with torch.no_grad():
            its = [load_module(one.model)(**feed_all).detections for one in (of, taught)]
        return float(kind.distance(*its).mean())

    assert apart(taught) == pytest.approx(0, abs=1e-4)
    assert apart(student) < 0.8 * apart(given)
    exported = stage_class("export")().apply(taught, small_context(tmp_path / "exported", **data))
    assert exported.steps[-1].decisions["parity"]["max_abs_difference"] < 1e-3


@pytest.mark.parametrize("write", [write_detr, write_rt_detr])
def test_a_detector_with_a_backbone_is_exported(write: Any, tmp_path: Path) -> None:
    """The stage itself holds the graph's answers against those of PyTorch."""
    write(tmp_path / "detr")
    place = str(tmp_path / "detr")
    given = import_teacher(place, "object-detection", COLOURS, tmp_path / "teacher")
    context = small_context(tmp_path / "exported", train=scenes(4), validation=scenes(2, 1))
    found = stage_class("export")().apply(given, context)
    assert found.steps[-1].decisions["parity"]["max_abs_difference"] < 1e-3


def test_a_service_tells_what_predict_tells(made: Path) -> None:
    photo = made / "yard" / "images" / "test" / "1.png"
    bundle = made / "out" / "bundle"
    with running(bundle) as server:
        answer = server.predict(image=base64.b64encode(photo.read_bytes()).decode())
        broken = server.predict(image=base64.b64encode(b"no image").decode())
    assert answer.status == 200, answer.body
    expected = edgecompress.load(bundle).answer(str(photo)).said["objects"]
    assert answer.json["objects"] == expected and len(expected) > 0
    assert broken.status == 422 and "not an image that can be read" in broken.body.decode()


TAUGHT = {
    "name": "taught", "task": "object-detection",
    "teacher": {"model": "yolos", "finetune": {"epochs": 2, "learning_rate": 2e-3}},
    "data": RECIPE["data"], "profile": PROFILE, "minimize": "size",
}  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ({"prune.structured": {"heads": 0.5}}, "prune.structured"),
    ],
)
def test_what_cannot_be_done_yet_is_said_before_any_work(
    stage: dict[str, Any], said: str, made: Path
) -> None:
    if not (made / "yolos").exists():
        write_yolos(made / "yolos")
    recipe = {**TAUGHT, "stages": [stage, "export"]}
    (made / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    done = in_process("check", "recipe.yaml", cwd=made)
    assert done.returncode == 2 and said in done.stderr, done.stderr
