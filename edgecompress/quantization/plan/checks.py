"""What a model must have before it is quantized, and what a scheme must have asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from onnx import TensorProto

from edgecompress.errors import StageError
from edgecompress.models.storage import StoredModel
from edgecompress.quantization.graphs.constants import lift_constants
from edgecompress.quantization.graphs.layers import (
    INSIDE,
    Kind,
    find_layers,
    name_nodes,
    values_inside,
)
from edgecompress.quantization.graphs.normalizations import fold_normalizations
from edgecompress.quantization.plan.planning import regions_of
from edgecompress.quantization.plan.quant_plan import Kernel, QuantPlan
from edgecompress.quantization.plan.scheme import NOT_ASKED
from edgecompress.words import meant

QUANTIZED = frozenset(
    {
        *("DequantizeLinear", "MatMulInteger", "ConvInteger", "QLinearConv", "QLinearMatMul"),
        *("QGemm", "QAttention", "MatMulNBits", "GatherBlockQuantized", "DynamicQuantizeMatMul"),
        *("MatMulIntegerToFloat", "QEmbedLayerNormalization", "DynamicQuantizeLSTM"),
    }
)
"""Operators that compute with, or decode, integer weights."""
LINEAR: frozenset[Kernel] = frozenset({"qdq", "integers", "blocks"})
KERNELS: Mapping[Kind, frozenset[Kernel]] = {
    "matmul": LINEAR,
    "gemm": LINEAR,
    "attention": frozenset({"fused"}),
    "conv": frozenset({"qdq"}),
    "lstm": frozenset({"fused"}),
    "table": frozenset({"blocks", "table", "rows", "shared"}),
    "embed_layer_norm": frozenset({"fused"}),
}
"""What each kind of layer can be written as."""


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


def check_quantizable(
    model: StoredModel, exclude: Iterable[str] = (), but: Collection[Kind] = ()
) -> None:
    """Refuse a graph in which nothing is left to quantize `but` layers of these kinds.

    Raises
    ------
    StageError
        Saying how much is quantized already, or which operators' weights cannot be; or that no
        layer has a name in `exclude`.
    """
    name_nodes(model)
    lift_constants(model)
    layers = find_layers(model)
    if any(not layer.refused and layer.kind not in but for layer in layers):
        check_excluded(model, exclude)
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


def check_quantized(plan: QuantPlan) -> None:
    """Refuse a plan that leaves every layer alone: its result would be a copy.

    Raises
    ------
    StageError
        With the reasons, the most frequent first.
    """
    if plan.layers:
        return
    counted = Counter(plan.left.values()).most_common(3)
    told = "; ".join(f"{reason} ({count} of {len(plan.left)} layers)" for reason, count in counted)
    raise StageError(f"nothing was quantized: {told}")


def check_excluded(model: StoredModel, names: Iterable[str]) -> None:
    """Refuse names that no layer of `model` has.

    Raises
    ------
    StageError
        Naming the first of them and the nearest name there is.
    """
    name_nodes(model)
    known = {name for layer in find_layers(model) for name in (layer.node, *layer.weights)}
    for name in sorted(set(names) - known):
        hint = meant(name, known)
        raise StageError(f"exclude: the model has no layer or weight named {name}{hint}")


def is_plan_of(plan: QuantPlan, model: StoredModel) -> bool:
    """Whether a plan, which may come from a record, can be written of this graph (`ready`)."""
    layers = find_layers(model)
    sizes = {tensor.name: tensor.dims for tensor in model.proto.graph.initializer}
    if {layer.node for layer in layers} != plan.layers.keys() | plan.left.keys():
        return False
    for layer in layers:
        how = plan.layers.get(layer.node)
        if how is None:
            continue
        fits = not layer.refused and how.kernel in KERNELS[layer.kind]
        if how.kernel == "blocks":
            width = sizes[layer.weights[0]][int(layer.kind == "table" or layer.transposed)]
            fits = fits and how.block > 0 and width % how.block == 0
        if how.activation in ("uint8", "int8"):
            fits = fits and plan.pairs.get(layer.data, layer.data) in plan.ranges
        if not fits or (layer.kind == "conv" and layer.data not in plan.pairs):
            return False
        moved = plan.corrections.get(layer.node)
        outputs = sizes[layer.weights[0]][0] if layer.kind == "conv" else 0
        if moved is not None and len(moved.codes) != outputs:
            return False
    return plan.ranges.keys() >= set(plan.pairs.values())
