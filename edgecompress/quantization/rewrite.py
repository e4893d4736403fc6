"""Rewrite a graph so that its linear layers and embeddings run as int8, weight by weight.

Dynamic: activations are quantized at run time (``DynamicQuantizeLinear`` + ``MatMulInteger`` …),
the same nodes and the same bits as `onnxruntime.quantization.quantize_dynamic` makes. Static:
QDQ pairs around the inputs of linear layers, with ranges measured before. Of a transformer only the
inputs of linear layers are quantized: the attention mask's bias (as low as -3.4e38), the softmax
and the residual stream stay in fp32. Convolutions have QDQ pairs on both sides, and so has what
lies between them (`edgecompress.quantization.regions`). ONNX Runtime fuses all into its integer
kernels.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from onnx import TensorProto

from edgecompress.errors import StageError
from edgecompress.models.storage import StoredModel, read_model, write_model
from edgecompress.quantization.constants import lift_constants
from edgecompress.quantization.layers import (
    INSIDE,
    Kind,
    Layer,
    find_layers,
    name_nodes,
    values_inside,
)
from edgecompress.quantization.normalizations import fold_normalizations
from edgecompress.quantization.plan import QuantPlan
from edgecompress.quantization.planning import plan_of, regions_of
from edgecompress.quantization.proof import Coverage, coverage
from edgecompress.quantization.scheme import NOT_ASKED, Scheme
from edgecompress.quantization.writer import write_plan
from edgecompress.values import Feed, OnnxModel

QUANTIZED = frozenset(
    {
        *("DequantizeLinear", "MatMulInteger", "ConvInteger", "QLinearConv", "QLinearMatMul"),
        *("QGemm", "QAttention", "MatMulNBits", "GatherBlockQuantized", "DynamicQuantizeMatMul"),
        *("MatMulIntegerToFloat", "QEmbedLayerNormalization", "DynamicQuantizeLSTM"),
    }
)
"""Operators that compute with, or decode, integer weights."""


def linear_inputs(model: StoredModel, exclude: frozenset[str] = frozenset()) -> list[str]:
    """Names of the tensors whose ranges the static scheme needs, in the graph's order."""
    name_nodes(model)
    lift_constants(model)
    fold_normalizations(model)
    kinds = {"matmul", "gemm", "attention"}
    regions = regions_of(model, exclude)
    found = [
        regions.sources.get(layer.data, layer.data)
        for layer in find_layers(model)
        if layer.kind in kinds and not layer.refused and not exclude & {layer.node, *layer.weights}
    ]
    return list(dict.fromkeys((*regions.ranges_of, *found)))


def check_quantizable(model: StoredModel, but: Collection[Kind] = ()) -> None:
    """Refuse a graph in which nothing is left to quantize `but` layers of these kinds.

    Raises
    ------
    StageError
        Saying how much is quantized already, or which operators' weights cannot be.
    """
    name_nodes(model)
    lift_constants(model)
    layers = find_layers(model)
    if any(not layer.refused and layer.kind not in but for layer in layers):
        return
    nodes = model.proto.graph.node
    done = Counter(node.op_type for node in nodes if node.op_type in QUANTIZED)
    if done:
        told = ", ".join(f"{count} {op}" for op, count in done.most_common())
        raise StageError(
            f"nothing is left to quantize: the model is quantized already ({told}); "
            "start from its fp32 form"
        )
    if layers:
        reason = layers[0].refused or NOT_ASKED[layers[0].kind]
        if reason == NOT_ASKED["conv"]:
            reason += ", which takes samples with --data; quantize.half halves the file without any"
        raise StageError(f"no layer can be quantized: {layers[0].node}: {reason}")
    weights = {t.name for t in model.proto.graph.initializer if len(t.dims) > 1}
    others = Counter(node.op_type for node in nodes if weights & set(node.input))
    halves = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    if any(t.data_type in halves and t.name in weights for t in model.proto.graph.initializer):
        raise StageError(
            "the model's weights have 16 bits, and only fp32 weights are quantized: start from its "
            "fp32 form"
        )
    sparse = [n for n in nodes if any(a.name == "sparse_value" for a in n.attribute)]
    if sparse or model.proto.graph.sparse_initializer:
        raise StageError("the model's weights are sparse tensors: export them dense")
    told = ", ".join(f"{count} {op}" for op, count in others.most_common()) or "none"
    inner = values_inside(nodes)
    raise StageError(
        "the model has no layer that can be quantized (MatMul, Gemm, Conv, LSTM, Attention or "
        f"Gather with a constant fp32 weight); operators with a weight: {told}"
        f"{INSIDE.format(inner) if inner else ''}"
    )


def check_quantized(layers: Iterable[Layer], reasons: Mapping[str, str]) -> None:
    """Refuse a result in which every layer was left alone: it would be a copy.

    Parameters
    ----------
    layers : iterable of Layer
        Of the graph before it was rewritten.
    reasons : mapping of str to str
        What `rewrite` gave.

    Raises
    ------
    StageError
        With the reasons, the most frequent first.
    """
    if any(layer.node not in reasons for layer in layers):
        return
    counted = Counter(reasons.values()).most_common(3)
    told = "; ".join(f"{reason} ({count} of {len(reasons)} layers)" for reason, count in counted)
    raise StageError(f"nothing was quantized: {told}")


def check_excluded(model: StoredModel, scheme: Scheme) -> None:
    """Refuse names in ``scheme.exclude`` that no layer of `model` has.

    Raises
    ------
    StageError
        Naming the first of them and the nearest name there is.
    """
    name_nodes(model)
    known = {name for layer in find_layers(model) for name in (layer.node, *layer.weights)}
    for name in sorted(scheme.exclude - known):
        near = get_close_matches(name, known, n=1, cutoff=0.0)
        hint = f"; the nearest is {near[0]}" if near else ""
        raise StageError(f"exclude: the model has no layer or weight named {name}{hint}")


def rewrite(model: StoredModel, scheme: Scheme) -> tuple[StoredModel, dict[str, str]]:
    """Quantize `model` as `scheme` says.

    The graph of `model` is changed in place (its weights lie on disk and are read one by one).

    Returns
    -------
    model : StoredModel
        The quantized graph.
    reasons : dict of str to str
        Why layers were left alone, by node name.

    Raises
    ------
    StageError
        When the graph's opset is too old, or a range is missing.
    """
    plan = plan_of(model, scheme)
    return write_plan(model, plan), dict(plan.left)


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
