"""Activation ranges that training has learned, from a module's layers to a graph's tensors.

The exporter names a node after the module that it comes from: the product of
``bert.encoder.layer.0.output.dense`` is ``/bert/encoder/layer.0/output/dense/MatMul``, and where a
module runs a second time (ALBERT) ``/…/output/dense_1/MatMul``. Its first input is the tensor that
the range is of.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping

from edgecompress.errors import StageError
from edgecompress.models.storage import StoredModel
from edgecompress.quantization.graphs.layers import Layer, find_layers, name_nodes

LearnedRanges = Mapping[str, tuple[float, float]]
KINDS = frozenset({"matmul", "gemm", "attention"})


def module_path(node: str) -> str:
    """Give the module that a node of an exported graph comes from.

    >>> module_path("/bert/encoder/layer.0/output/dense/MatMul")
    'bert.encoder.layer.0.output.dense'
    """
    return node.strip("/").rpartition("/")[0].replace("/", ".")


def tensor_ranges(
    model: StoredModel, ranges: LearnedRanges, modules: Container[str] = ()
) -> dict[str, tuple[float, float]]:
    """Give learned ranges by tensor.

    Parameters
    ----------
    model : StoredModel
        As it was exported.
    ranges : mapping of str to (float, float)
        By module path.
    modules : container of str
        Paths of all modules: what ends in a number there is no second run of another one.

    Raises
    ------
    StageError
        When a module has no node in the graph, or one tensor has two ranges.
    """
    found: dict[str, tuple[float, float]] = {}
    missing = set(ranges)
    for layer in _linear_layers(model):
        path = module_path(layer.node)
        if path not in ranges and path not in modules:
            path = re.sub(r"_\d+$", "", path)
        if path not in ranges:
            continue
        missing.discard(path)
        if found.setdefault(layer.data, ranges[path]) != ranges[path]:
            raise StageError(
                f"the input of {path} is one tensor with that of another layer in the graph, and "
                "training has learned two ranges for it; leave one of them out of qat (exclude)"
            )
    if missing:
        raise StageError(
            f"the graph has no linear layer for {min(missing)}, whose range training has learned; "
            "leave it out of qat (exclude)"
        )
    return found


def learned_for(
    model: StoredModel, ranges: LearnedRanges
) -> tuple[dict[str, tuple[float, float]], dict[str, str]]:
    """Give the ranges for a static scheme, and why the layers that lack one stay fp32.

    Parameters
    ----------
    model : StoredModel
    ranges : mapping of str to (float, float)
        By tensor, as they travelled with the model.

    Returns
    -------
    ranges : dict of str to (float, float)
    reasons : dict of str to str
        By node name.

    Raises
    ------
    StageError
        When there are none, or they are those of another graph.
    """
    if not ranges:
        raise StageError(
            "this model carries no learned ranges: train it with the field qat and put only export "
            "and fuse between, or leave `ranges: qat` out"
        )
    lacking = without_range(model, ranges)
    used = {layer.data for layer in _linear_layers(model)} & set(ranges)
    if unused := set(ranges) - used:
        raise StageError(
            f"ranges were learned for {min(unused)}, and this graph has no linear layer behind it; "
            "put only export and fuse between the training and quantize.static"
        )
    return dict(ranges), dict.fromkeys(lacking, "training has learned no range for its input")


def without_range(model: StoredModel, ranges: Iterable[str]) -> dict[str, str]:
    """Give the linear layers whose input has no learned range: node name to tensor."""
    known = set(ranges)
    return {layer.node: layer.data for layer in _linear_layers(model) if layer.data not in known}


def check_kept(before: StoredModel, after: StoredModel, ranges: LearnedRanges) -> None:
    """See that a rewritten graph still has a range wherever the one before had one.

    Raises
    ------
    StageError
        When a linear layer's input is now a tensor without a range.
    """
    lacking = set(without_range(before, ranges).values())
    for node, tensor in without_range(after, ranges).items():
        if tensor not in lacking:
            raise StageError(f"the input of {node} would lose the range that training has learned")


def _linear_layers(model: StoredModel) -> list[Layer]:
    name_nodes(model)
    return [layer for layer in find_layers(model) if layer.kind in KINDS]
