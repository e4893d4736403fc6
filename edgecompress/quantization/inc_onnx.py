"""Write a quantized PyTorch graph as an ONNX file like Optimum's, and compare the two.

Imported inside functions only: it needs torch and onnx.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from edgecompress.errors import StageError
from edgecompress.models.session import open_session
from edgecompress.quantization.inc_embedding import TABLE
from edgecompress.quantization.inc_graph import TRANSLATIONS, WEIGHT, WRAPPER, layer_path
from edgecompress.values import Feed, Json, OnnxModel

OPSET = 21
LOOK_UPS = ("Gather", "GatherBlockQuantized")
OUTPUT = "logits"
AXES = ("batch_size", "sequence_length")  # as Optimum names them

# Integer kernels and PyTorch's floats round differently where a value lies between two steps, and
# each such step moves later ones: single logits may differ by a few percent of their range. The
# mean difference stays small unless the graph computes something else.
MEAN_DIFFERENCE = 0.02


def export_onnx(
    graph_module: Any,
    example: tuple[Any, ...],
    input_names: Sequence[str],
    layers: Mapping[str, str],
    path: Path,
) -> OnnxModel:
    """Export a graph of two-axis inputs, both axes dynamic, to one ONNX file.

    Parameters
    ----------
    graph_module : torch.fx.GraphModule
        Takes the inputs in the order of `input_names` and gives the logits.
    example : tuple of int64 tensor (batch, length)
    layers : mapping
        From `lower_linears`: prefix of a layer's tensors to its path in the PyTorch model.
    path : Path
        Where to write; its folder is made.
    """
    exported = torch.export.export(graph_module, example, dynamic_shapes=dynamic_shapes(example))
    program = torch.onnx.export(
        exported,
        dynamo=True,
        opset_version=OPSET,
        input_names=list(input_names),
        output_names=[OUTPUT],
        custom_translation_table=TRANSLATIONS,
        optimize=True,
        verbose=False,
    )
    if program is None:
        raise StageError("PyTorch's exporter gave no ONNX graph")
    model = program.model_proto
    _tidy(model)
    _own_zero_points(model.graph)
    _name_layers(model.graph, layers)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return OnnxModel(path)


def dynamic_shapes(example: tuple[Any, ...]) -> tuple[Any, ...]:
    """Say that both axes of every input are dynamic, in the form that ``torch.export`` takes."""
    dynamic = torch.export.Dim.DYNAMIC
    return tuple({0: dynamic, 1: dynamic} for _ in example)


def _tidy(model: Any) -> None:
    """Give axes Optimum's names and drop the exporter's notes (they hold paths of this machine)."""
    graph = model.graph
    names: dict[str, str] = {}
    for value in graph.input:
        for axis, size in zip(AXES, value.type.tensor_type.shape.dim, strict=True):
            if size.dim_param:
                names[size.dim_param] = axis
            size.Clear()
            size.dim_param = axis
    for value in graph.output:
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = names.get(size.dim_param, size.dim_param)
    del graph.value_info[:], graph.metadata_props[:], model.metadata_props[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    graph.doc_string = model.doc_string = ""
    graph.name = "main_graph"


def _own_zero_points(graph: Any) -> None:
    """Give each dequantized weight its own zero points.

    The exporter merges equal ones. ONNX Runtime's conversion of weights for CPUs without VNNI
    (``session.x64quantprecision``) rewrites them per weight and fails on a shared one.
    """
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    taken: set[str] = set()
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in tensors:
            continue
        name = node.input[2]
        if name in taken:
            copy = graph.initializer.add()
            copy.CopyFrom(tensors[name])
            copy.name = f"{node.input[0]}_zero_point"
            node.input[2] = copy.name
        taken.add(name)


def _name_layers(graph: Any, layers: Mapping[str, str]) -> None:
    """Name weights, linear layers and embeddings as the PyTorch model does: reports quote them."""
    renamed: dict[str, str] = {}
    for tensor in graph.initializer:
        prefix = next((p for p in layers if tensor.name.startswith(f"{p}.")), "")
        path = layers.get(prefix, prefix) + tensor.name.removeprefix(prefix)
        renamed[tensor.name] = tensor.name = layer_path(path.removeprefix(WRAPPER))
    weights: dict[str, str] = {}
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = renamed.get(name, name)
        if node.op_type == "DequantizeLinear":
            weights[node.output[0]] = node.input[0]
        elif node.op_type in {"MatMul", "MatMulInteger", *LOOK_UPS}:
            read = node.input[0 if node.op_type in LOOK_UPS else 1]
            path, _, kind = weights.get(read, read).rpartition(".")
            if kind in {WEIGHT, TABLE}:
                node.name = path


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
        got = session.run([OUTPUT], feed)[0]
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
