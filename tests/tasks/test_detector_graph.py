"""Boxes and scores as other programs' graphs give them, made those that the task reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, checker, helper, load, numpy_helper, save

from edgecompress.errors import DataError
from edgecompress.models.runner import open_onnx
from edgecompress.processors.detection import read_detector
from edgecompress.tasks._detector_graph import write_detections
from edgecompress.values import OnnxModel

FED, CLASSES = (48, 64), 3
RANDOM = np.random.default_rng(0)
PIXELS = np.concatenate((RANDOM.uniform(10, 40, (5, 2)), RANDOM.uniform(2, 20, (5, 2))), axis=1)
SCORES = RANDOM.uniform(0.05, 0.95, (5, CLASSES))
SIZE = np.array((64, 48, 64, 48))
RIGHT = np.concatenate((PIXELS / SIZE, SCORES), axis=1)
CORNERS = np.concatenate((PIXELS[:, :2] - PIXELS[:, 2:] / 2, PIXELS[:, :2] + PIXELS[:, 2:] / 2), 1)
LOGITS = np.log(SCORES / (1 - SCORES))
SURE = RANDOM.uniform(0.3, 0.9, (5, 1))


def write(file: Path, opset: int = 17, **outputs: np.ndarray) -> Path:
    """Write a graph that gives these outputs whatever it is fed, their shapes left open."""
    nodes = [
        helper.make_node("ReduceSum", ["image"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "nothing"], ["zero"]),
        *(helper.make_node("Add", [f"{name}_", "zero"], [name]) for name in outputs),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * one.ndim)
        for name, one in outputs.items()
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, *FED])
    stored = {f"{name}_": one.astype(np.float32) for name, one in outputs.items()}
    stored["nothing"] = np.zeros((), np.float32)
    held = [numpy_helper.from_array(one, name) for name, one in stored.items()]
    graph = helper.make_graph(nodes, "made", [image], values, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    save(model, file)
    return file


def rewritten(folder: Path, detector: dict[str, Any], **outputs: np.ndarray) -> np.ndarray:
    source, made = write(folder / "source.onnx", **outputs), folder / "made" / "model.onnx"
    shapes = {name: one.shape for name, one in outputs.items()}
    write_detections(source, shapes, read_detector(detector), FED, CLASSES, made)
    checker.check_model(load(made), full_check=True)
    found = open_onnx(OnnxModel(made))({"image": np.ones((1, 3, *FED), np.float32)})
    assert list(found) == ["detections"]
    return found["detections"][0]


def one(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts, axis=1)[None]


XYWH = np.concatenate((CORNERS[:, :2], PIXELS[:, 2:]), axis=1)
NOTHING = np.concatenate((np.log(SCORES / 4), np.log(1 - SCORES.sum(1, keepdims=True) / 4)), 1)
FORMS: dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]] = {
    "two outputs": ({"outputs": ["b", "s"]}, {"s": SCORES[None], "b": PIXELS[None]}),
    "two outputs, found by their shape": ({}, {"s": SCORES[None], "b": PIXELS[None]}),
    "one output": ({}, {"o": one(PIXELS, SCORES)}),
    "one output, boxes last": ({}, {"o": one(PIXELS, SCORES).transpose(0, 2, 1)}),
    "objectness": ({"objectness": True}, {"o": one(PIXELS, SURE, SCORES / SURE)}),
    "corners": ({"boxes": "xyxy"}, {"o": one(CORNERS, SCORES)}),
    "a corner": ({"boxes": "xywh"}, {"o": one(XYWH, SCORES)}),
    "shares": ({"normalised": True}, {"o": one(PIXELS / SIZE, SCORES)}),
    "sigmoid": ({"scores": "sigmoid"}, {"o": one(PIXELS, LOGITS)}),
    "four axes": ({"boxes": "xyxy", "outputs": ["b", "s"]},
                  {"b": CORNERS[None, :, None], "s": SCORES[None]}),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_boxes_that_are_decoded(name: str, tmp_path: Path) -> None:
    detector, outputs = FORMS[name]
    np.testing.assert_allclose(rewritten(tmp_path, detector, **outputs), RIGHT, atol=1e-5)


def test_a_softmax_has_a_class_for_nothing(tmp_path: Path) -> None:
    detector = {"outputs": ["pred_boxes", "logits"], "normalised": True, "scores": "softmax"}
    outputs = {"logits": NOTHING[None], "pred_boxes": (PIXELS / SIZE)[None]}
    found = rewritten(tmp_path, detector, **outputs)
    np.testing.assert_allclose(found[:, :4], RIGHT[:, :4], atol=1e-6)
    np.testing.assert_allclose(found[:, 4:], SCORES / 4, atol=1e-6)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


@pytest.mark.parametrize("layout", ["channels first", "five axes", "channels last"])
@pytest.mark.parametrize("decoding", ["yolov3", "yolov5"])
def test_raw_maps_are_decoded_cell_by_cell(decoding: str, layout: str, tmp_path: Path) -> None:
    anchors = [[[8, 6], [20, 16]], [[3, 4], [5, 9]]]
    grids, outputs, wanted = ((3, 4), (6, 8)), {}, []
    width = 5 + CLASSES
    for place, (high, wide) in enumerate(grids):
        raw = np.random.default_rng(place).normal(0, 1, (2, width, high, wide))
        shaped = {
            "channels first": raw.reshape(1, 2 * width, high, wide),
            "five axes": raw.transpose(0, 2, 3, 1)[None],
            "channels last": raw.reshape(2 * width, high, wide).transpose(1, 2, 0)[None],
        }
        outputs[f"map{place}"] = shaped[layout]
        for anchor in range(2):
            for y in range(high):
                for x in range(wide):
                    cell = raw[anchor, :, y, x]
                    stride = np.array((FED[1] / wide, FED[0] / high))
                    centre, size = sigmoid(cell[:2]), np.array(anchors[place][anchor])
                    if decoding == "yolov5":
                        centre = (2 * centre - 0.5 + (x, y)) * stride
                        size = (2 * sigmoid(cell[2:4])) ** 2 * size
                    else:
                        centre, size = (
                            (centre + np.array((x, y))) * stride,
                            np.exp(cell[2:4]) * size,
                        )
                    box = np.concatenate((centre, size)) / SIZE
                    scores = sigmoid(cell[4]) * sigmoid(cell[5:])
                    wanted.append(np.concatenate((box, scores)))
    found = rewritten(tmp_path, {"decoding": decoding, "anchors": anchors}, **outputs)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_grid_of_yolox_is_decoded(tmp_path: Path) -> None:
    cells = [(s, x, y) for s in (8, 16, 32) for y in range(48 // s) for x in range(64 // s)]
    raw = np.random.default_rng(3).normal(0, 1, (len(cells), 5 + CLASSES))
    raw[:, 4:] = sigmoid(raw[:, 4:])
    wanted = [
        np.concatenate((
            np.concatenate(((row[:2] + np.array((x, y))) * s, np.exp(row[2:4]) * s)) / SIZE,
            row[4] * row[5:],
        ))
        for row, (s, x, y) in zip(raw, cells, strict=True)
    ]  # fmt: skip
    found = rewritten(tmp_path, {"decoding": "yolox"}, o=raw[None])
    np.testing.assert_allclose(found, wanted, atol=1e-5)


WRONG = [
    ({"outputs": ["x"]}, {"o": one(PIXELS, SCORES)}, "no output 'x'.*it has o"),
    ({}, {"o": one(PIXELS, SCORES, SURE)}, "shape 1 × 5 × 8.*none of its axes has the 7 numbers"),
    ({}, {"o": PIXELS}, "shape 5 × 4; boxes are read of three axes"),
    ({}, {"a": SURE[None], "b": SURE[None], "c": SURE[None]}, "name those of boxes and of scores"),
    ({"decoding": "yolov3", "anchors": [[[1, 1]]]}, {"o": np.ones((1, 9, 2, 2))},
     "shape 1 × 9 × 2 × 2, which is none of 1 anchors and 8 numbers"),
    ({"decoding": "yolov3", "anchors": [[[1, 1]], [[2, 2]]]}, {"o": np.ones((1, 8, 2, 2))},
     "2 lists for 1 outputs"),
]  # fmt: skip


@pytest.mark.parametrize(("detector", "outputs", "said"), WRONG)
def test_what_does_not_fit_the_graph_is_said(
    detector: dict[str, Any], outputs: dict[str, np.ndarray], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said):
        rewritten(tmp_path, detector, **outputs)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"treshold": 1}, "no key detector.'treshold'.*threshold"),
        ({"threshold": 2}, r"detector\.threshold must be a number from 0 to 1"),
        ({"boxes": "xy"}, "must be one of cxcywh, xyxy, xywh"),
        ({"objectness": 1}, "must be true or false"),
        ({"outputs": "a"}, "must be a list of names"),
        ({"decoding": "yolov3"}, "anchors belong to"),
        ({"anchors": [[[1, 1]]]}, "anchors belong to"),
        ({"decoding": "yolov5", "anchors": [[1, 2]]}, "must be a list of"),
        ([], "must be keys and values"),
    ],
)
def test_a_description_is_checked(given: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_detector(given)


def test_a_graph_that_is_too_old_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "old.onnx", 11, o=one(PIXELS, SCORES))
    with pytest.raises(DataError, match=r"old\.onnx: the graph's opset is 11"):
        write_detections(
            source, {"o": (1, 5, 7)}, read_detector({}), FED, CLASSES, tmp_path / "made.onnx"
        )
