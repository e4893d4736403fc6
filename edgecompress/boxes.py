"""Objects in an image: their classes, and boxes around them in pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import DataError
from edgecompress.values import Example

SLACK = 2.0
"""Pixels by which a box may reach out of its image: roundings of files, cut off silently."""

Corners = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels of an image that stands upright."""


@dataclass(frozen=True, slots=True)
class Objects:
    """What people marked in an image.

    Attributes
    ----------
    labels : tuple of str
    corners : tuple of Corners
    ignored : tuple of bool
        Of each: whether it counts neither as found nor as missed (COCO's crowds, Pascal VOC's
        difficult ones).
    """

    labels: tuple[str, ...] = ()
    corners: tuple[Corners, ...] = ()
    ignored: tuple[bool, ...] = ()

    @property
    def boxes(self) -> NDArray[np.float64]:
        """The corners as float64 (objects, 4)."""
        return np.array(self.corners, np.float64).reshape(-1, 4)


def objects_of(example: Example) -> Objects | None:
    """Give the objects of an example; None where nobody has said them."""
    return example.target if isinstance(example.target, Objects) else None


def inside(corners: Sequence[Any], width: float, height: float) -> Corners:
    """Cut a box off at the edges of its image.

    Raises
    ------
    DataError
        When it has no area, is no four numbers, or reaches out by more than `SLACK`.
    """
    left, top, right, bottom = map(float, corners)
    shown = f"{left:g}, {top:g}, {right:g}, {bottom:g} (left, top, right, bottom)"
    if not all(map(math.isfinite, (left, top, right, bottom))):
        raise DataError(f"the box {shown} is no four numbers")
    if right <= left or bottom <= top:
        raise DataError(f"the box {shown} has no area")
    if min(left, top) < -SLACK or right > width + SLACK or bottom > height + SLACK:
        raise DataError(f"the box {shown} reaches out of its image of {width:g} × {height:g}")
    left, top, right, bottom = max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height)
    if right <= left or bottom <= top:
        raise DataError(f"the box {shown} lies outside of its image of {width:g} × {height:g}")
    return left, top, right, bottom


def areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the areas of boxes, float64 (boxes, 4) to (boxes,)."""
    found: NDArray[np.float64] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return found


def shared(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the area that each box of `a` shares with each of `b`, float64 (a, b)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    sides = np.maximum(np.minimum(a[:, None, 2:], b[None, :, 2:]) - low, 0.0)
    found: NDArray[np.float64] = sides[..., 0] * sides[..., 1]
    return found


def overlaps(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give intersection over union of each box of `a` with each of `b`, float64 (a, b)."""
    common = shared(a, b)
    union = areas(a)[:, None] + areas(b)[None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)
