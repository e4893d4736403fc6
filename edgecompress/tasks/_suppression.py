"""Boxes from what a detector gives: the likely ones, each object once, in an image's pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.boxes import overlaps

FLOOR = 0.001
"""The least score of a box that is scored, as COCO's results have them from YOLO's programs."""
MOST = 100
"""Boxes of an image that are kept, as COCO counts them."""
MOST_OF_A_CLASS = 300
"""The likeliest boxes of a class that are compared with each other."""


def found_boxes(
    values: NDArray[Any], size: NDArray[Any], inner: NDArray[Any], iou: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Read the boxes of an image.

    Parameters
    ----------
    values : float (candidates, 4 + classes)
        Centre x, centre y, width and height as shares of what the model is fed, then the
        probability of each class.
    size, inner : float64 (2,), (4,)
        As `DetectionProcessor.geometry` gives them.
    iou : float or None
        Overlap from which on two boxes of a class are one object.

    Returns
    -------
    boxes : float64 (found, 4)
        Left, top, right and bottom in pixels of the image.
    scores : float64 (found,)
        Falling.
    classes : int64 (found,)
    """
    values = values.astype(np.float64)
    where, classes = np.nonzero(values[:, 4:] > FLOOR)
    scores = values[where, 4 + classes]
    boxes = in_pixels(values[:, :4], size, inner)[where]
    real = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, scores, classes = boxes[real], scores[real], classes[real]
    order = np.argsort(-scores, kind="stable")
    if iou is not None:
        order = order[np.sort(suppressed(boxes[order], classes[order], iou))]
    order = order[:MOST]
    return boxes[order], scores[order], classes[order].astype(np.int64)


def in_pixels(
    boxes: NDArray[np.float64], size: NDArray[Any], inner: NDArray[Any]
) -> NDArray[np.float64]:
    """Turn centres and sizes, as shares of what is fed, into corners in the image's pixels."""
    scale, offset = size / inner[2:], inner[:2]
    low = (boxes[:, :2] - boxes[:, 2:] / 2 - offset) * scale
    high = (boxes[:, :2] + boxes[:, 2:] / 2 - offset) * scale
    return np.clip(np.concatenate((low, high), axis=1), 0.0, np.concatenate((size, size)))


def suppressed(boxes: NDArray[np.float64], classes: NDArray[Any], iou: float) -> NDArray[np.int64]:
    """Leave of boxes that overlap the likeliest: greedy non-maximum suppression, class by class.

    Parameters
    ----------
    boxes : float64 (boxes, 4)
        The likeliest first.
    classes : int (boxes,)

    Returns
    -------
    int64 (kept,)
        Places in `boxes`.
    """
    kept: list[NDArray[np.int64]] = []
    for one in np.unique(classes):
        places = np.flatnonzero(classes == one)[:MOST_OF_A_CLASS]
        close = overlaps(boxes[places], boxes[places]) > iou
        alive = np.ones(len(places), bool)
        for place in range(len(places)):
            if alive[place]:
                alive[place + 1 :] &= ~close[place, place + 1 :]
        kept.append(places[alive])
    return np.concatenate(kept) if kept else np.zeros(0, np.int64)
