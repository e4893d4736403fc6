"""Objects of a record of data: a list of labels and boxes, as tables and data sets hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgecompress.boxes import Objects, inside
from edgecompress.errors import DataError

EDGES = ("xmin", "ymin", "xmax", "ymax")
"""As transformers' pipelines call the sides of a box."""


def marked_objects(value: Any, width: int, height: int) -> Objects:
    """Read the objects of a record.

    Parameters
    ----------
    value : object
        A list of ``{"label": …, "box": {"xmin": …, "ymin": …, "xmax": …, "ymax": …}}``, which may
        also be a list of these four; or two lists of Hugging Face's data sets, ``bbox`` (left, top,
        width, height) and ``category``, names of classes.
    width, height : int
        Of the image.

    Raises
    ------
    DataError
        When it is neither, or a box is none.
    """
    found = [_pair(one, place) for place, one in enumerate(_listed(value), start=1)]
    corners = []
    for place, (_, box) in enumerate(found, start=1):
        try:
            corners.append(inside(box, width, height))
        except DataError as error:
            raise DataError(f"object {place}: {error.message}") from None
    return Objects(tuple(label for label, _ in found), tuple(corners), (False,) * len(found))


def _listed(value: Any) -> Sequence[Any]:
    if isinstance(value, Mapping) and {"bbox", "category"} <= value.keys():
        boxes, names = (list(value[key]) for key in ("bbox", "category"))
        if len(boxes) != len(names):
            raise DataError(f"{len(boxes)} boxes (bbox) have {len(names)} classes (category)")
        sides = [list(box) for box in boxes]
        whole = [[box[0], box[1], box[0] + box[2], box[1] + box[3]] if len(box) == 4 else box
                 for box in sides]  # fmt: skip
        pairs = zip(names, whole, strict=True)
        return [{"label": name, "box": box} for name, box in pairs]
    if hasattr(value, "tolist"):  # parquet's lists are arrays
        value = value.tolist()
    if not isinstance(value, list | tuple):
        raise DataError(
            'objects must be a list of {"label": …, "box": {"xmin": …, "ymin": …, "xmax": …, '
            '"ymax": …}}'
        )
    return value


def _pair(one: Any, place: int) -> tuple[str, list[float]]:
    held: Mapping[str, Any] = one if isinstance(one, Mapping) else {}
    label, box = held.get("label"), held.get("box")
    if not isinstance(label, str) or not label:
        raise DataError(f"object {place} has no label, which is the name of its class")
    sides: Any = [box.get(edge) for edge in EDGES] if isinstance(box, Mapping) else box
    sides = sides.tolist() if hasattr(sides, "tolist") else sides
    right = isinstance(sides, list | tuple) and len(sides) == 4
    if not right or not all(isinstance(x, int | float) and not isinstance(x, bool) for x in sides):
        raise DataError(f"object {place} has no box of {', '.join(EDGES)}")
    return label, [float(side) for side in sides]
