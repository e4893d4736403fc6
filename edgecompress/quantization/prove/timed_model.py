"""A model as it will run, written only to be timed: how fast its layers are at their widths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgecompress.models.storage import read_model
from edgecompress.quantization.graphs.exporting import export_graph
from edgecompress.quantization.graphs.shapes import with_known_shapes
from edgecompress.quantization.observe.histograms import collect
from edgecompress.quantization.observe.observing import observing
from edgecompress.quantization.observe.ranges import find_ranges, unfit_tensors
from edgecompress.quantization.plan.checks import linear_inputs
from edgecompress.quantization.plan.planning import plan_of, ready
from edgecompress.quantization.plan.scheme import Scheme
from edgecompress.quantization.prove.proven import write_proven
from edgecompress.quantization.write.timed_graphs import Form
from edgecompress.surgery.dynamo_export import Traced
from edgecompress.values import Candidate, OnnxModel


def write_timed(
    module: Any, example: dict[str, Any], outputs: Sequence[str], folder: Path, form: Form
) -> Candidate:
    """Export a module for inputs of one shape, in the form in which it will run.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode.
    example : dict of str to torch.Tensor
        One example; the graph takes inputs of its shapes alone. Ranges of int8 are those that this
        example shows: they change answers, not times.
    outputs : sequence of str
        Names of the answers.
    folder : Path
        Where to write; it is made.
    form : {"int8", "fp32"}
        Static int8, as `quantize.static` makes it, or fp32.

    Raises
    ------
    StageError
        When the module cannot be exported or quantized.
    """
    plain = OnnxModel(folder / "model.onnx")
    export_graph(module, None, plain.path, "dynamo", traced=Traced(example, {}, tuple(outputs)))
    if form == "fp32":
        return Candidate(plain)
    source, stored = with_known_shapes(plain, read_model(plain.path), folder / "shapes")
    feed = {name: one.numpy() for name, one in example.items()}
    names = linear_inputs(stored)
    with observing(source, names, folder / "observed") as observed:
        seen = collect(observed, names, [feed])
    scheme = Scheme(ranges=find_ranges(seen), unfit=unfit_tensors(seen))
    made = OnnxModel(folder / "int8" / "model.onnx")
    write_proven(
        lambda: ready(read_model(source.path), static=True),
        lambda graph, missed: plan_of(graph, replace(scheme, as_integers=missed)),
        made,
        [feed],
    )
    return Candidate(made)
