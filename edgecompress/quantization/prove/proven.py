"""Write a quantized model and prove it, and write again what ONNX Runtime computes in fp32."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from onnx import TensorProto

from edgecompress.models.storage import StoredModel, read_model, write_model
from edgecompress.quantization.plan.quant_plan import QuantPlan
from edgecompress.quantization.prove.proof import Coverage, coverage
from edgecompress.quantization.write.writer import write_plan
from edgecompress.values import Feed, OnnxModel

Planned = Callable[[StoredModel, frozenset[str]], QuantPlan]
"""Gives a graph's plan, with the weights of these names as integers that need no QDQ pairs."""


def write_proven(
    read: Callable[[], StoredModel],
    planned: Planned,
    model: OnnxModel,
    feeds: Sequence[Feed] | None = None,
) -> tuple[Coverage, dict[str, str]]:
    """Quantize a graph into a file and prove what of it runs as int8.

    A layer that ONNX Runtime computes in fp32 in spite of its QDQ pairs is written another way:
    the graph is read, planned and written again, until there is none.

    Parameters
    ----------
    read : callable
        Gives the graph, once for each writing.
    planned : callable
    model : OnnxModel
        Where to write, and the session settings to run it with; its folder is made.
    feeds : sequence of dict, optional
        As `coverage` takes them.

    Returns
    -------
    coverage : Coverage
    reasons : dict of str to str
        Why layers were left alone, by node name.
    """
    model.directory.mkdir(parents=True, exist_ok=True)
    missed: frozenset[str] = frozenset()
    while True:
        stored = read()
        plan = planned(stored, missed)
        write_model(write_plan(stored, plan), model.path)
        found = coverage(model, feeds)
        # A convolution that stays in fp32 takes the integers from under its neighbours: once more.
        more = missed_weights(found) - missed
        if not more or not plan.ranges:
            return found, dict(plan.left)
        missed |= more


def stored_twice(path: Path) -> list[str]:
    """Names of the fp32 weights of a quantized file that are there as integers, too."""
    tensors = read_model(path).proto.graph.initializer
    integers = {t.name for t in tensors if t.data_type != TensorProto.FLOAT}
    forms = ("_quantized", "_linear_quantized", "_transposed_quantized", "_filters_quantized")
    return [
        t.name
        for t in tensors
        if t.data_type == TensorProto.FLOAT
        and any(f"{t.name}{form}" in integers for form in (*forms, "_q4", "_q8"))
    ]


def missed_weights(found: Coverage) -> frozenset[str]:
    """Weights that were written as int8 in QDQ form and are computed in fp32 all the same."""
    stored = [part.weight for part in found.fp32_linears if part.dequantized]
    return frozenset(
        re.sub(r"(_linear|_transposed|_filters)?_quantized$", "", name) for name in stored
    )
