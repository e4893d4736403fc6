"""A detector's graph that another program exported, made to give what the task reads.

Whatever boxes and scores look like, behind them stand a few nodes of float32 that give one tensor:
centre and size of each box as shares of what is fed, then the probability of each class. Nothing of
these nodes is a convolution or a product of matrices, so that quantization leaves them alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecompress.errors import DataError
from edgecompress.processors.detection import DetectorSettings

NAME = "detections"
PREFIX = "edgecompress_detections_"
OLDEST = 13
"""The opset from which on all nodes written here mean the same."""
BOXES = 4
Shapes = Mapping[str, tuple[int, ...]]


def write_detections(
    source: Path, shapes: Shapes, settings: DetectorSettings, fed: tuple[int, int], classes: int,
    made: Path,
) -> None:  # fmt: skip
    """Write a graph with the output `NAME`, float (batch, boxes, 4 + classes), and no other.

    Parameters
    ----------
    source, made : Path
    shapes : mapping of str to tuple of int
        Of the graph's outputs, for an image of the size `fed`.
    settings : DetectorSettings
    fed : tuple of int
        Height and width of what the model is fed.
    classes : int

    Raises
    ------
    DataError
        When the graph's outputs are not what the settings say.
    """
    import onnx

    try:
        model = onnx.load(source)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", file=source) from None
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST:
        raise DataError(
            f"the graph's opset is {opset}, and boxes are read from graphs of {OLDEST} and later; "
            "export it again, or convert it (onnx.version_converter)",
            file=source,
        )
    try:
        _rewritten(model.graph, shapes, settings, fed, classes)
    except DataError as error:
        raise DataError(error.message, file=source) from None
    made.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, made)


@dataclass
class _Writer:
    """Nodes behind a graph."""

    graph: Any
    count: int = 0
    constants: int = 0

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Write a node; give the name of its output."""
        from onnx import helper

        name = f"{PREFIX}{self.count}"
        self.count += 1
        node = helper.make_node(kind, list(inputs), [name], f"{name}_{kind}", **attributes)
        self.graph.node.append(node)
        return name

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Write numbers; give their name."""
        from onnx import numpy_helper

        array = np.asarray(values, dtype)
        name = f"{PREFIX}constant_{self.constants}"
        self.constants += 1
        self.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def part(self, value: str, start: int, stop: int) -> str:
        """Take some of the last axis."""
        places = [self.constant([one], np.int64) for one in (start, stop, -1)]
        return self.node("Slice", value, *places)

    def reshaped(self, value: str, shape: Sequence[int]) -> str:
        """Reshape; 0 keeps a size."""
        return self.node("Reshape", value, self.constant(shape, np.int64))


def _rewritten(
    graph: Any, shapes: Shapes, settings: DetectorSettings, fed: tuple[int, int], classes: int
) -> None:
    from onnx import TensorProto, helper

    missing = [name for name in settings.outputs if name not in shapes]
    if missing:
        raise DataError(
            f"the graph has no output {missing[0]!r} (detector.outputs); it has {', '.join(shapes)}"
        )
    names = settings.outputs or tuple(shapes)
    writer = _Writer(graph)
    if settings.decoding in ("yolov3", "yolov5"):
        boxes, scores = _of_maps(writer, names, shapes, settings, fed, classes)
    else:
        boxes, scores = _of_boxes(writer, names, shapes, settings, classes)
        if settings.decoding == "yolox":
            boxes = _of_grid(writer, boxes, fed)
        if settings.objectness:
            sure, scores = writer.part(scores, 0, 1), writer.part(scores, 1, 1 + classes)
            scores = _probable(writer, scores, settings)
            sure = writer.node("Sigmoid", sure) if settings.scores == "sigmoid" else sure
            scores = writer.node("Mul", scores, sure)
        else:
            scores = _probable(writer, scores, settings)
    boxes = _centred(writer, boxes, settings)
    if not settings.normalised:
        size = (fed[1], fed[0], fed[1], fed[0])
        boxes = writer.node("Mul", boxes, writer.constant(1 / np.array(size)))
    writer.node("Concat", boxes, scores, axis=-1)
    graph.node[-1].output[0] = NAME
    batch = next(iter(graph.input)).type.tensor_type.shape.dim[0]
    first = batch.dim_value or batch.dim_param or "batch"
    value = helper.make_tensor_value_info(
        NAME, TensorProto.FLOAT, [first, "boxes", BOXES + classes]
    )
    del graph.output[:]
    graph.output.append(value)


def _of_boxes(
    writer: _Writer, names: Sequence[str], shapes: Shapes, settings: DetectorSettings, classes: int
) -> tuple[str, str]:
    """Give boxes, and scores with their objectness, of one output or two."""
    scored = classes + settings.objectness + (settings.scores == "softmax")
    if len(names) == 1:
        whole = _rows(writer, names[0], shapes, BOXES + scored)
        return writer.part(whole, 0, BOXES), writer.part(whole, BOXES, BOXES + scored)
    if len(names) != 2:
        raise DataError(
            f"the graph has the outputs {', '.join(names)}; name those of boxes and of scores "
            "(detector.outputs), or say how its raw maps are decoded (detector.decoding)"
        )
    if not settings.outputs:
        names = sorted(names, key=lambda name: BOXES not in shapes[name][1:])
    return _rows(writer, names[0], shapes, BOXES), _rows(writer, names[1], shapes, scored)


def _rows(writer: _Writer, name: str, shapes: Shapes, width: int) -> str:
    """Give an output as (batch, boxes, width), whichever way round it lies."""
    shape = shapes[name]
    if len(shape) == 4 and 1 in shape[1:3]:  # (batch, boxes, 1, width)
        name = writer.reshaped(name, [0, -1, shape[-1]])
        shape = (shape[0], -1, shape[-1])
    if len(shape) != 3:
        raise DataError(
            f"the output {name!r} has the shape {_words(shape)}; boxes are read of three axes "
            "(batch, boxes, numbers)"
        )
    if shape[2] == width:
        return name
    if shape[1] == width:
        return writer.node("Transpose", name, perm=[0, 2, 1])
    raise DataError(
        f"the output {name!r} has the shape {_words(shape)}, and none of its axes has the {width} "
        "numbers that a box has by labels, detector.objectness and detector.scores"
    )


def _of_maps(
    writer: _Writer, names: Sequence[str], shapes: Shapes, settings: DetectorSettings,
    fed: tuple[int, int], classes: int,
) -> tuple[str, str]:  # fmt: skip
    """Decode raw maps, one for each scale: boxes in pixels, and probabilities.

    Sources: Redmon & Farhadi, 2018, "YOLOv3"; for ``yolov5`` the head of its program of that name.
    """
    if len(names) != len(settings.anchors):
        raise DataError(
            f"detector.anchors has {len(settings.anchors)} lists for {len(names)} outputs "
            f"({', '.join(names)})"
        )
    boxes, scores, width = [], [], BOXES + 1 + classes
    for name, anchors in zip(names, settings.anchors, strict=True):
        flat, (high, wide) = _cells(writer, name, shapes[name], len(anchors), width)
        stride = np.array((fed[1] / wide, fed[0] / high), np.float32)
        y, x = np.mgrid[:high, :wide].reshape(2, 1, -1)
        grid = np.stack((x, y), -1).repeat(len(anchors), 0).reshape(1, -1, 2)
        sizes = np.repeat(np.array(anchors, np.float32), high * wide, axis=0)[None]
        centre, size = writer.part(flat, 0, 2), writer.part(flat, 2, BOXES)
        centre = writer.node("Sigmoid", centre)
        if settings.decoding == "yolov5":
            centre = writer.node("Mul", centre, writer.constant(2.0))
            grid = grid - 0.5
            size = writer.node("Mul", writer.node("Sigmoid", size), writer.constant(2.0))
            size = writer.node("Mul", size, size)
        else:
            size = writer.node("Exp", size)
        centre = writer.node("Add", centre, writer.constant(grid))
        centre = writer.node("Mul", centre, writer.constant(stride))
        size = writer.node("Mul", size, writer.constant(sizes))
        boxes.append(writer.node("Concat", centre, size, axis=-1))
        sure, each = writer.part(flat, BOXES, BOXES + 1), writer.part(flat, BOXES + 1, width)
        scores.append(
            writer.node("Mul", writer.node("Sigmoid", sure), writer.node("Sigmoid", each))
        )
    return writer.node("Concat", *boxes, axis=1), writer.node("Concat", *scores, axis=1)


def _cells(
    writer: _Writer, name: str, shape: tuple[int, ...], anchors: int, width: int
) -> tuple[str, tuple[int, int]]:
    """Give a raw map as (batch, anchors · cells, width), with its height and width in cells."""
    sizes = shape
    if len(sizes) == 4 and sizes[1] == anchors * width:  # (batch, anchors · width, height, width)
        high, wide = sizes[2:]
        split = writer.reshaped(name, [0, anchors, width, high * wide])
        turned = writer.node("Transpose", split, perm=[0, 1, 3, 2])
    elif len(sizes) == 5 and sizes[1] == anchors and sizes[4] == width:
        high, wide = sizes[2:4]
        turned = name
    elif len(sizes) == 4 and sizes[3] == anchors * width:  # channels last
        high, wide = sizes[1:3]
        split = writer.reshaped(name, [0, high * wide, anchors, width])
        turned = writer.node("Transpose", split, perm=[0, 2, 1, 3])
    else:
        raise DataError(
            f"the raw map {name!r} has the shape {_words(shape)}, which is none of {anchors} "
            f"anchors and {width} numbers for each"
        )
    return writer.reshaped(turned, [0, -1, width]), (high, wide)


def _of_grid(writer: _Writer, boxes: str, fed: tuple[int, int]) -> str:
    """Decode YOLOX's boxes, those of three scales one after the other, into pixels."""
    grids, strides = [], []
    for stride in (8, 16, 32):
        high, wide = fed[0] // stride, fed[1] // stride
        y, x = np.mgrid[:high, :wide].reshape(2, -1)
        grids.append(np.stack((x, y), -1))
        strides.append(np.full((high * wide, 1), stride))
    grid, stride_of = np.concatenate(grids)[None], np.concatenate(strides)[None]
    centre = writer.node("Add", writer.part(boxes, 0, 2), writer.constant(grid))
    both = writer.node("Concat", centre, writer.node("Exp", writer.part(boxes, 2, BOXES)), axis=-1)
    return writer.node("Mul", both, writer.constant(stride_of))


def _probable(writer: _Writer, scores: str, settings: DetectorSettings) -> str:
    """Make probabilities of scores; of a softmax without its last class, «nothing»."""
    if settings.scores == "sigmoid":
        return writer.node("Sigmoid", scores)
    if settings.scores == "softmax":
        return writer.part(writer.node("Softmax", scores, axis=-1), 0, -1)
    return scores


def _centred(writer: _Writer, boxes: str, settings: DetectorSettings) -> str:
    """Give boxes by their centre and size."""
    if settings.boxes == "cxcywh":
        return boxes
    low, high = writer.part(boxes, 0, 2), writer.part(boxes, 2, BOXES)
    half = writer.constant(0.5)
    if settings.boxes == "xyxy":
        size = writer.node("Sub", high, low)
        centre = writer.node("Mul", writer.node("Add", low, high), half)
    else:
        size = high
        centre = writer.node("Add", low, writer.node("Mul", size, half))
    return writer.node("Concat", centre, size, axis=-1)


def _words(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
