"""Write what Neural Compressor found into the model's ordinary export, and compare the two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgecompress.errors import StageError
from edgecompress.models.session import open_session
from edgecompress.models.storage import StoredModel, read_model
from edgecompress.quantization.arithmetic.blocks import Bits
from edgecompress.quantization.graphs.constants import lift_constants
from edgecompress.quantization.graphs.folding import find_groups
from edgecompress.quantization.graphs.layers import find_layers, name_nodes, names_read_inside
from edgecompress.quantization.inc.observed import ObservedLayer
from edgecompress.quantization.inc.smoothing import SmoothedGroup
from edgecompress.quantization.observe.learned import module_path
from edgecompress.quantization.plan.planning import plan_of
from edgecompress.quantization.plan.scheme import Scheme
from edgecompress.quantization.prove.proven import write_proven
from edgecompress.quantization.search.units import LINEAR
from edgecompress.quantization.write.smooth import smooth
from edgecompress.values import Feed, Json, OnnxModel

NO_LAYER = "a constant of the model, such as rotary frequencies, and no layer's weight"
MEAN_DIFFERENCE = 0.02
"""Integer kernels and PyTorch's floats round differently where a value lies between two steps, and
each such step moves later ones: single logits may differ by a few percent of their range. The mean
difference stays small unless the graph computes something else."""


def write_observed(
    source: OnnxModel,
    found: Mapping[str, ObservedLayer],
    smoothed: Sequence[SmoothedGroup],
    fp32: Mapping[str, str],
    tables: tuple[Bits, int],
    path: Path,
) -> tuple[OnnxModel, Json]:
    """Quantize the exported graph by what was found for its layers.

    Parameters
    ----------
    source : OnnxModel
        The fp32 export.
    found : mapping of str to ObservedLayer
        By the layer's path in the PyTorch model.
    smoothed : sequence of SmoothedGroup
    fp32 : mapping of str to str
        Paths of the linear layers, and why they stay fp32 where nothing was found for them.
    tables : (int, int)
        Bits and block of embedding tables.
    path : Path
        Where to write; its folder is made.

    Returns
    -------
    model : OnnxModel
    decisions : dict
        What is int8 as ONNX Runtime executed it, and why the rest is not.

    Raises
    ------
    StageError
        When a layer that was found has no place in the graph.
    """
    stored, missing = _smoothed_graph(source, smoothed), dict(found)
    ranges: dict[str, tuple[float, float]] = {}
    weights, left = {}, {}
    for layer in find_layers(stored):
        one = missing.pop(layer.node, None)
        if one is not None:
            weights[layer.weights[0]] = one.weight
            if one.range is not None:
                ranges[layer.data] = one.range
        elif layer.kind in LINEAR:
            left[layer.node] = fp32.get(layer.node, NO_LAYER)
    if missing:
        raise StageError(f"the exported graph has no linear layer for {min(missing)}")
    bits, block = tables
    scheme = Scheme(
        exclude=frozenset(left),
        ranges=ranges or None,
        weights=weights,
        rows=True,
        least_table=0.0,
        embedding_bits=bits,
        embedding_block=block,
    )
    model = OnnxModel(path, source.session)
    proven = write_proven(
        lambda: _smoothed_graph(source, smoothed),
        lambda graph, missed: plan_of(graph, replace(scheme, as_integers=missed)),
        model,
    )
    ran = proven.coverage
    parts = (replace(part, name=part.name.removesuffix("_quant")) for part in ran.parts)
    return model, replace(ran, parts=tuple(parts)).to_json(dict(proven.plan.left) | left)


def _smoothed_graph(source: OnnxModel, smoothed: Sequence[SmoothedGroup]) -> StoredModel:
    """Read the export, its layers called after the PyTorch model's, and smooth it."""
    stored = read_model(source.path)
    name_nodes(stored)
    lift_constants(stored)
    nodes = {node.name: node for node in stored.proto.graph.node}
    named: set[str] = set()
    for layer in find_layers(stored):
        name = module_path(layer.node)
        if name and name not in nodes:
            nodes[name] = nodes[layer.node]
            nodes[name].name = name
            named.add(name)
    _shorten(stored, named)
    if not smoothed:
        return stored
    factors = {path: group.factors for group in smoothed for path in group.paths}
    # A node multiplies, as in PyTorch: nothing is folded into what stands before the layers.
    groups = [replace(group, folds=()) for group in find_groups(stored)]
    found = {group.data: factors.get(group.layers[0].node) for group in groups if group.weights}
    return smooth(stored, groups, {data: each for data, each in found.items() if each is not None})


def _shorten(stored: StoredModel, named: set[str]) -> None:
    """Give what is between the layers numbers for names: in a small model they weigh most."""
    graph = stored.proto.graph
    kept = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    kept |= names_read_inside(graph.node)
    short = {name: name for name in kept}
    for number, node in enumerate(graph.node):
        if node.name not in named:
            node.name = f"{node.op_type}_{number}"
        for place, name in enumerate(node.output):
            if name and name not in kept:
                short[name] = node.output[place] = f"_{len(short)}"
    for node in graph.node:
        node.input[:] = [short.get(name, name) for name in node.input]


def parity(
    model: OnnxModel, expected: Sequence[np.ndarray[Any, Any]], feeds: Sequence[Feed]
) -> Json:
    """Compare an ONNX model with the PyTorch graph that it was made from.

    ONNX Runtime is told to use exact int8 kernels, so that the comparison judges the conversion and
    not this machine: without VNNI its fast ones saturate.

    Parameters
    ----------
    expected : sequence of float32 (batch, …, classes)
        PyTorch's logits of each feed.
    feeds : sequence of dict
        Batches of several sizes and lengths.

    Returns
    -------
    dict
        ``max_difference`` and ``mean_difference`` of the logits, ``range`` (largest absolute logit)
        and ``same_answers``, the share of equal classes.

    Raises
    ------
    StageError
        When the mean difference exceeds `MEAN_DIFFERENCE` of the range, or a result is not finite.
    """
    entries = (*model.session.config_entries, ("session.x64quantprecision", "1"))
    exact = replace(model.session, config_entries=entries)
    session = open_session(replace(model, session=exact))
    largest = total = scale = 0.0
    count = same = answers = 0
    for wanted, feed in zip(expected, feeds, strict=True):
        got = session.run(None, feed)[0]
        if wanted.shape != got.shape:
            raise StageError(f"PyTorch gives logits {wanted.shape}, ONNX Runtime {got.shape}")
        if not (np.isfinite(wanted).all() and np.isfinite(got).all()):
            raise StageError("the quantized model gives logits that are not finite")
        inside = feed["attention_mask"].astype(bool)
        if wanted.ndim == 3:  # logits per token: padding is nobody's answer
            wanted, got = wanted[inside], got[inside]
        difference = np.abs(wanted - got)
        largest = max(largest, float(difference.max()))
        scale = max(scale, float(np.abs(wanted).max()))
        total += float(difference.sum())
        count += difference.size
        matches = wanted.argmax(-1) == got.argmax(-1)
        same += int(matches.sum())
        answers += matches.size
    found = {
        "max_difference": round(largest, 6),
        "mean_difference": round(total / count, 6),
        "range": round(scale, 6),
        "same_answers": round(same / answers, 6),
        "batches": len(feeds),
    }
    if total / count > MEAN_DIFFERENCE * scale:
        raise StageError(
            f"ONNX Runtime's logits differ from Neural Compressor's by {total / count:.3g} on"
            f" average (at most {MEAN_DIFFERENCE:g} of their range {scale:.3g} is allowed):"
            " the exported graph computes something else"
        )
    return found
