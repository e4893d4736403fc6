"""Positions of embeddings in a graph, recognised by what they are for made-up inputs."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from edgecompress.models.storage import StoredModel
from edgecompress.quantization.graphs.trials import Trials
from edgecompress.quantization.graphs.wiring import Wiring, node, put_constant


def looked_up_words(gather: NodeProto, wiring: Wiring, trials: Trials) -> str | None:
    """Give the model's input whose positions 0, 1, 2 … a Gather looks up, if it does.

    It is what the first Gather of the same sum looks up. None, too, where the positions come from
    this input in the form that the optimizer knows.
    """
    table = wiring.tensors.get(gather.input[0])
    ids = gather.input[1]
    if table is None or len(table.dims) != 2 or ids in trials.inputs or ids not in wiring.makers:
        return None
    found = trials.results(ids)
    if not found or not all(
        np.array_equal(places, np.arange(places.size)[None]) and places.size == length
        for feed, places in found
        for length in [next(iter(feed.values())).shape[1]]
    ):
        return None
    words = _looked_up_beside(gather, wiring, trials)
    if words is None or _known_positions(ids, words, wiring):
        return None
    return words


def _looked_up_beside(gather: NodeProto, wiring: Wiring, trials: Trials) -> str | None:
    """Give the model's input that the first Gather of a sum of embeddings looks up."""
    total = wiring.only_reader(gather.output[0], "Add")
    while total is not None:
        for name in total.input:
            inner = wiring.made_by(name, "Add")
            first = wiring.made_by(inner.input[0] if inner else name, "Gather")
            if first is not None and first.input[1] in trials.inputs:
                return first.input[1]
        total = wiring.only_reader(total.output[0], "Add")
    return None


def _known_positions(ids: str, words: str, wiring: Wiring) -> bool:
    steps = (("Slice", 2), ("Unsqueeze", 0), ("Gather", 0), ("Shape", 0))
    for operator, place in steps:
        each = wiring.made_by(ids, operator)
        if each is None:
            return False
        ids = each.input[place]
    return ids == words


def position_nodes(model: StoredModel, gather: NodeProto, words: str) -> list[NodeProto]:
    """Make the look-up of the first positions, as many as `words` has columns."""
    stem = gather.name or gather.output[0]
    table = next(t for t in model.proto.graph.initializer if t.name == gather.input[0])
    rows = put_constant(model, f"{stem}_all", np.arange(table.dims[0])[None])
    zero, one = (put_constant(model, f"{stem}_{n}", np.array([n])) for n in (0, 1))
    index = put_constant(model, f"{stem}_index", np.array(1))
    moved = NodeProto()
    moved.CopyFrom(gather)
    moved.input[1] = f"{stem}_ids"
    return [
        node("Shape", [words], f"{stem}_shape"),
        node("Gather", [f"{stem}_shape", index], f"{stem}_length", axis=0),
        node("Unsqueeze", [f"{stem}_length", zero], f"{stem}_end"),
        node("Slice", [rows, zero, f"{stem}_end", one, one], f"{stem}_ids"),
        moved,
    ]
