"""By how much two ONNX models differ: their graphs, and each weight by number."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgecompress.models.storage import StoredModel, read_model
from edgecompress.quantization.graphs.fusion import graph_digest, operator_counts


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """A weight that two models do not have in common.

    Attributes
    ----------
    name : str
    old, new : str or None
        Type and shape, such as ``int8 64×32``; None where a model lacks it.
    differing : float or None
        Share of the values that differ; None where type or shape does.
    largest : float or None
        Largest absolute difference, in the tensor's own unit (of int8: steps).
    scale : float or None
        Largest absolute value of the old tensor, to judge `largest` by.
    """

    name: str
    old: str | None
    new: str | None
    differing: float | None = None
    largest: float | None = None
    scale: float | None = None


@dataclass(frozen=True, slots=True)
class ModelDifferences:
    """What differs between two models.

    Attributes
    ----------
    same_graph : bool
        Whether operators and wiring are the same, names aside.
    operators : dict of str to (int, int)
        Operators of which one model has more: how many the old and the new one have.
    tensors : tuple of TensorDifference
        By the share of values that differ, largest first.
    compared : int
        How many weights both models have.
    """

    same_graph: bool
    operators: dict[str, tuple[int, int]]
    tensors: tuple[TensorDifference, ...]
    compared: int


def compare_models(old: Path, new: Path) -> ModelDifferences:
    """Compare two ONNX files weight by weight, one weight in memory at a time.

    Raises
    ------
    DataError
        When one of them is no ONNX model.
    """
    before, after = operator_counts(old), operator_counts(new)
    counts = {name: (before.get(name, 0), after.get(name, 0)) for name in {**before, **after}}
    first, second = read_model(old), read_model(new)
    ours = {tensor.name: tensor for tensor in first.proto.graph.initializer}
    theirs = {tensor.name: tensor for tensor in second.proto.graph.initializer}
    found = [
        difference
        for name in {**ours, **theirs}
        if (difference := _difference(name, first, ours.get(name), second, theirs.get(name)))
    ]
    return ModelDifferences(
        same_graph=graph_digest(old) == graph_digest(new),
        operators={name: pair for name, pair in sorted(counts.items()) if pair[0] != pair[1]},
        tensors=tuple(sorted(found, key=lambda one: (-(one.differing or 2.0), one.name))),
        compared=len(ours.keys() & theirs.keys()),
    )


def _difference(
    name: str, first: StoredModel, old: Any, second: StoredModel, new: Any
) -> TensorDifference | None:
    ours = None if old is None else first.array(old)
    theirs = None if new is None else second.array(new)
    was, now = (None if each is None else _shape(each) for each in (ours, theirs))
    if ours is None or theirs is None or was != now:
        return TensorDifference(name, was, now)
    if ours.tobytes() == theirs.tobytes():
        return None
    if not np.issubdtype(ours.dtype, np.number):
        return TensorDifference(name, was, now)
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    return TensorDifference(
        name,
        was,
        now,
        differing=float(np.mean(a != b)),
        largest=float(np.max(np.abs(a - b))),
        scale=float(np.max(np.abs(a))),
    )


def _shape(array: np.ndarray[Any, Any]) -> str:
    sizes = "×".join(map(str, array.shape))
    return f"{array.dtype} {sizes}".strip()
