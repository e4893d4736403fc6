"""Inputs given as an .npz file: one array for each input, or `0/input`, `1/input`, … for items.

A name alone (``input_ids``) makes the file one item; names with a number ahead (``0/input_ids``,
``1/input_ids``) make as many items as there are numbers, counted from 0. An item is what one
inference is given, batch axis included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgecompress.arrayfiles import MAGIC, read_arrays
from edgecompress.errors import DataError
from edgecompress.models.graph import GraphInput, tensor_inputs
from edgecompress.reading import open_regular, reading
from edgecompress.values import Feed, OnnxModel
from edgecompress.words import meant


def file_items(models: Sequence[OnnxModel], file: Path) -> list[list[Feed]]:
    """Read the inputs of several graphs from one file; each is given those that it has.

    Parameters
    ----------
    models : sequence of OnnxModel
    file : Path
        Arrays of other dtypes are converted where no value can change.

    Raises
    ------
    DataError
        Naming file and array: missing, unknown, or of a wrong dtype, rank or size.
    """
    items = read_items(file)
    graphs = [tensor_inputs(model.path) for model in models]
    known = sorted({found.name for inputs in graphs for found in inputs})
    for name in items[0]:
        if name not in known:
            raise DataError(f"array {name!r} is no input{meant(name, known)}", file=file)
    made: dict[tuple[GraphInput, ...], list[Feed]] = {}
    for inputs in graphs:
        if inputs not in made:
            made[inputs] = [
                {found.name: _fitted(found, item, place, file) for found in inputs}
                for place, item in _placed(items)
            ]
    return [made[inputs] for inputs in graphs]


def read_items(file: Path) -> list[Feed]:
    """Read the items of an .npz file.

    Raises
    ------
    DataError
        When it is missing, damaged, or its names make no items.
    """
    if _is_single(file):
        raise DataError(
            "this is one array without a name; write it with numpy.savez(file, input_name=array)",
            file=file,
        )
    found = read_arrays(file)
    if not found:
        raise DataError("the file holds no arrays", file=file)
    return _items(found, file)


def _is_single(file: Path) -> bool:
    """Whether a file is one array without a name, whatever it is called."""
    with reading(file), open_regular(file) as stream:
        return stream.read(len(MAGIC)) == MAGIC


def _items(arrays: Mapping[str, np.ndarray], file: Path) -> list[Feed]:
    numbered = {name: re.fullmatch(r"(\d+)/(.+)", name) for name in arrays}
    if not any(numbered.values()):
        return [dict(arrays)]
    found: dict[int, Feed] = {}
    for name, match in numbered.items():
        if match is None:
            raise DataError(
                f"array {name!r} has no number, and others have; number all or none", file=file
            )
        found.setdefault(int(match[1]), {})[match[2]] = arrays[name]
    for place, number in enumerate(sorted(found)):
        if place != number:
            raise DataError(
                f"items are numbered from 0 without a gap; {place} is missing", file=file
            )
    items = [found[number] for number in sorted(found)]
    for place, item in enumerate(items):
        if set(item) != set(items[0]):
            name = sorted(set(item) ^ set(items[0]))[0]
            raise DataError(f"items 0 and {place} differ: {name!r} is in one of them", file=file)
    return items


def _placed(items: Sequence[Feed]) -> Iterable[tuple[str, Feed]]:
    """Give each item with what stands before its names in the file."""
    if len(items) == 1:
        return [("", items[0])]
    return [(f"{number}/", item) for number, item in enumerate(items)]


def _fitted(wanted: GraphInput, item: Feed, place: str, file: Path) -> np.ndarray:
    """Check that an array is what an input takes, and give it in the input's dtype."""
    if wanted.name not in item:
        raise DataError(f"input {wanted.name!r} is missing{meant(wanted.name, item)}", file=file)
    array, name = item[wanted.name], f"array {place + wanted.name!r}"
    try:
        dtype = np.dtype(wanted.dtype)
    except TypeError:
        dtype = None
    if dtype is None or dtype.kind not in "biuf":
        raise DataError(
            f"input {wanted.name!r} is of dtype {wanted.dtype}, which cannot be fed", file=file
        )
    if not np.can_cast(array.dtype, dtype, "safe"):
        raise DataError(
            f"{name} is {array.dtype}, and the graph takes {dtype}; save it as {dtype}", file=file
        )
    if wanted.shape is not None:
        if array.ndim != len(wanted.shape):
            raise DataError(
                f"{name} has {array.ndim} axes, and the graph takes {_shape(wanted.shape)}",
                file=file,
            )
        for axis, (size, given) in enumerate(zip(wanted.shape, array.shape, strict=True)):
            if isinstance(size, int) and size != given:
                raise DataError(
                    f"{name} has size {given} on axis {axis}, and the graph takes "
                    f"{_shape(wanted.shape)}",
                    file=file,
                )
    return array.astype(dtype, copy=False)


def _shape(shape: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, shape))})"
