"""Tables of cosines and sines that a graph makes of its frequencies when it is loaded.

Attention that rotates queries and keys by itself reads both for every position that a model takes:
8,192 positions weigh as much in a file as a layer of a small language model. What a table is made
of can be told from it: its first rows give the frequencies roughly, later ones ever nearer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from edgecompress.models.storage import StoredModel
from edgecompress.quantization.graphs.wiring import node, put_constant

Array = np.ndarray[Any, Any]

ROTATING = {"GroupQueryAttention": 7}
"""Operators that read such tables, and at which input: cosines, and sines behind them."""
LEAST_VALUES = 1 << 14
"""Of a table: a smaller one stays as it is."""
CLOSE = 2e-6
"""Largest difference of a table that is made again, where its factor is 1."""


def make_waves(model: StoredModel) -> bool:
    """Put frequencies in the place of tables that they give again, in place.

    Returns
    -------
    bool
        Whether there were such tables.
    """
    graph = model.proto.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    pairs = dict.fromkeys(
        (each.input[place], each.input[place + 1])
        for each in graph.node
        if (place := ROTATING.get(each.op_type)) and len(each.input) > place + 1
    )
    made: list[NodeProto] = []
    gone: set[str] = set()
    for pair in pairs:
        if not all(_is_table(tensors.get(name)) for name in pair):
            continue
        tables = [model.array(tensors[name]) for name in pair]
        found = frequencies(*tables)
        if found is not None:
            made += _nodes(model, pair, *found, len(tables[0]))
            gone |= {*pair}
    if gone:
        kept = [tensor for tensor in graph.initializer if tensor.name not in gone]
        nodes = [*made, *graph.node]
        graph.ClearField("initializer")
        graph.ClearField("node")
        graph.initializer.extend(kept)
        graph.node.extend(nodes)
        for name in gone:
            model.places.pop(name, None)
    return bool(gone)


def frequencies(cosines: Array, sines: Array) -> tuple[Array, np.float32] | None:
    """Give what both tables are made of: cos(position · frequency) · factor, and the same of sines.

    Parameters
    ----------
    cosines, sines : ndarray, float32, shape (positions, frequencies)

    Returns
    -------
    (ndarray float32 (frequencies,), float32) or None
        None where they are made otherwise.
    """
    factor = np.float32(cosines[0, 0])
    if cosines.shape != sines.shape or len(cosines) < 2 or not factor > 0:
        return None
    angles = np.arctan2(sines.astype(np.float64), cosines.astype(np.float64))
    found, row = angles[1], 1
    while row < len(angles) - 1:
        row = min(2 * row, len(angles) - 1)
        turns = np.round((row * found - angles[row]) / (2 * np.pi))
        found = (angles[row] + 2 * np.pi * turns) / row
    near = found.astype(np.float32)
    best, least = near, np.full(near.shape, np.inf)
    for each in (near, np.nextafter(near, np.float32(9)), np.nextafter(near, np.float32(0))):
        made = np.arange(len(cosines), dtype=np.float32)[:, None] * each
        away = np.maximum(
            np.abs(np.cos(made) * factor - cosines).max(axis=0),
            np.abs(np.sin(made) * factor - sines).max(axis=0),
        )
        best, least = np.where(away < least, each, best), np.minimum(away, least)
    close = CLOSE * max(1.0, float(factor))
    return (best, factor) if float(least.max()) <= close else None


def _is_table(tensor: TensorProto | None) -> bool:
    return (
        tensor is not None
        and tensor.data_type == TensorProto.FLOAT
        and len(tensor.dims) == 2
        and tensor.dims[0] * tensor.dims[1] >= LEAST_VALUES
    )


def _nodes(
    model: StoredModel, pair: tuple[str, str], found: Array, factor: np.float32, count: int
) -> list[NodeProto]:
    stem = f"{pair[0]}_angles"
    names = {
        part: put_constant(model, f"{stem}_{part}", value)
        for part, value in {
            "from": np.float32(0),
            "to": np.float32(count),
            "by": np.float32(1),
            "axis": np.array([1], np.int64),
            "frequencies": found[None],
            "factor": factor,
        }.items()
    }
    places = [names["from"], names["to"], names["by"]]
    return [
        node("Range", places, f"{stem}_places"),
        node("Unsqueeze", [f"{stem}_places", names["axis"]], f"{stem}_column"),
        node("Mul", [f"{stem}_column", names["frequencies"]], stem),
        node("Cos", [stem], f"{stem}_cosines"),
        helper.make_node("Mul", [f"{stem}_cosines", names["factor"]], [pair[0]], f"{stem}_Mul"),
        node("Sin", [stem], f"{stem}_sines"),
        helper.make_node("Mul", [f"{stem}_sines", names["factor"]], [pair[1]], f"{stem}_Mul_1"),
    ]
