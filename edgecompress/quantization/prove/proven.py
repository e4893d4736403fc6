"""Write a quantized model and prove it, and write again what ONNX Runtime computes in fp32."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx import TensorProto

from edgecompress.errors import StageError
from edgecompress.models.storage import StoredModel, read_model, write_model
from edgecompress.quantization.plan.quant_plan import QuantPlan
from edgecompress.quantization.prove.proof import Coverage, check_model, coverage
from edgecompress.quantization.write.writer import write_plan
from edgecompress.values import Feed, Json, OnnxModel

Planned = Callable[[StoredModel, frozenset[str]], QuantPlan]
"""Gives a graph's plan, with the weights of these names as integers that need no QDQ pairs."""


@dataclass(frozen=True, slots=True)
class Proven:
    """A model that was written, and what was seen of it.

    Attributes
    ----------
    coverage : Coverage
        What runs as int8.
    plan : QuantPlan
        What it was written by.
    unproven : str
        Why it was not run; empty where it was.
    """

    coverage: Coverage
    plan: QuantPlan
    unproven: str = ""

    def to_json(self) -> Json:
        """Give what a stage writes into its decisions."""
        found = self.coverage.to_json(self.plan.left)
        return found | ({"unproven": self.unproven} if self.unproven else {})


def write_proven(
    read: Callable[[], StoredModel],
    planned: Planned | QuantPlan,
    model: OnnxModel,
    feeds: Sequence[Feed] | None = None,
    *,
    beside: OnnxModel | None = None,
    written: Callable[[], None] = lambda: None,
) -> Proven:
    """Quantize a graph into a file and prove what of it runs as int8.

    A layer that ONNX Runtime computes in fp32 in spite of its QDQ pairs is written another way:
    the graph is read, planned and written again, until there is none.

    Parameters
    ----------
    read : callable
        Gives the graph, once for each writing.
    planned : callable or QuantPlan
        A plan that was recorded is followed as it is.
    model : OnnxModel
        Where to write, and the session settings to run it with; its folder is made.
    feeds : sequence of dict, optional
        As `coverage` takes them.
    beside : OnnxModel, optional
        The fp32 model. Made-up inputs do not suit every graph (a vision model of another image
        size): where it refuses them as well, the quantized graph is read as ONNX Runtime optimised
        it, unrun.
    written : callable
        Called before the proof.

    Raises
    ------
    StageError
        When ONNX Runtime refuses the result.
    """
    model.directory.mkdir(parents=True, exist_ok=True)
    missed: frozenset[str] = frozenset()
    while True:
        stored = read()
        plan = planned if isinstance(planned, QuantPlan) else planned(stored, missed)
        write_model(write_plan(stored, plan), model.path)
        del stored  # it holds the quantized weights
        written()
        found, unproven = _coverage(model, feeds, beside)
        # A convolution that stays in fp32 takes the integers from under its neighbours: once more.
        more = missed_weights(found) - missed
        if not more or not plan.ranges or plan is planned:
            check_model(model)
            return Proven(found, plan, unproven)
        missed |= more


def _coverage(
    model: OnnxModel, feeds: Sequence[Feed] | None, beside: OnnxModel | None
) -> tuple[Coverage, str]:
    try:
        return coverage(model, feeds), ""
    except StageError:
        if beside is None:
            raise
        try:
            coverage(beside)
        except StageError:
            told = "not run: made-up inputs do not fit the model, and no others were given"
            return coverage(model, ()), told
        raise


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
    """Weights that were written as int8 in QDQ form and are computed in fp32 all the same.

    A name that ends in a form is given with it and without: it may be an exporter's own.
    """
    stored = [part.weight for part in found.fp32_linears if part.dequantized]
    names = [name.removesuffix("_quantized") for name in stored]
    return frozenset(names) | {re.sub(r"_(linear|transposed|filters)$", "", x) for x in names}
