"""The nodes that a linear layer, a convolution or fused attention gives way to."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgecompress.quantization.arithmetic.weights import array_tensor
from edgecompress.quantization.graphs.layers import Layer
from edgecompress.quantization.graphs.regions import least_scales, quantize_bias
from edgecompress.quantization.plan.quant_plan import LayerPlan
from edgecompress.quantization.write.block_nodes import add_offsets, sums_of
from edgecompress.quantization.write.draft import FIXED, MICROSOFT, Draft

LSTM_INPUTS = 8
"""Input, two weights, biases, lengths, two states and peepholes."""
INT8_COMPUTE = 4
"""`accuracy_level` of MatMulNBits at which it quantizes its input, too."""


def matmul(draft: Draft, node: NodeProto, layer: Layer, how: LayerPlan) -> None:
    """Write a MatMul: in QDQ form, as integers, or with its weight in blocks."""
    if how.kernel in ("blocks", "tied"):
        _block_matmul(draft, node, layer, how)
        return
    data, scale, zero = draft.activation(layer.data, how.activation)
    form = "transposed" if layer.transposed else "linear"
    weight, weight_scale, weight_zero = draft.weight(layer.weights[0], form, how)
    name, out = node.name, node.output[0]
    if how.kernel == "qdq":
        axis: dict[str, Any] = {"axis": 1} if how.per_channel else {}
        draft.add("DequantizeLinear", [data, scale, zero], f"{name}_input")
        draft.add("DequantizeLinear", [weight, weight_scale, weight_zero], f"{name}_w", **axis)
        draft.add("MatMul", [f"{name}_input:0", f"{name}_w:0"], f"{name}_quant", out)
        return
    draft.add("MatMulInteger", [data, weight, zero, weight_zero], f"{name}_quant")
    draft.add("Cast", [f"{name}_quant:0"], f"{name}_quant_cast", to=TensorProto.FLOAT)
    draft.add("Mul", [scale, weight_scale], f"{name}_quant_scales_mul")
    inputs = [f"{name}_quant_cast:0", f"{name}_quant_scales_mul:0"]
    draft.add("Mul", inputs, f"{name}_quant_output_scale_mul", out)


def _block_matmul(draft: Draft, node: NodeProto, layer: Layer, how: LayerPlan) -> None:
    name = layer.weights[0]
    if how.kernel == "tied":
        outputs, inputs = draft.sources[name].dims
        parts = (*draft.tied_product(name, how), "")
    else:
        array = draft.model.array(draft.sources[name])
        rows = array if layer.transposed else np.ascontiguousarray(array.T)
        outputs, inputs = rows.shape
        parts = draft.blocks(name, rows, how, linear=True)
    out, offsets = node.output[0], parts[2]
    product = f"{out}_without_offsets" if offsets else out
    sums = sums_of(draft, layer.data, inputs, how.block) if offsets else ""
    made = helper.make_node("MatMulNBits", [layer.data, *parts[:2]], [product], node.name)
    made.domain = MICROSOFT
    given = {"K": inputs, "N": outputs, "bits": how.bits, "block_size": how.block}
    given["accuracy_level"] = 0 if how.floats else INT8_COMPUTE
    made.attribute.extend(helper.make_attribute(key, value) for key, value in given.items())
    draft.nodes.append(made)
    if offsets:
        add_offsets(draft, node.name, product, sums, offsets, out)


def gemm(draft: Draft, node: NodeProto, layer: Layer, how: LayerPlan) -> None:
    """Write a Gemm: a MatMul, and an Add for its bias."""
    bias = node.input[2] if len(node.input) > 2 else ""
    out = node.output[0]
    product = NodeProto(name=node.name, output=[f"{out}_MatMul"] if bias else [out])
    matmul(draft, product, layer, how)
    if bias:
        draft.add("Add", [f"{out}_MatMul", bias], f"{node.name}_Add", out)


def conv(draft: Draft, node: NodeProto, layer: Layer, how: LayerPlan) -> None:
    """Write a Conv between the QDQ pairs of its input, weight and bias; it becomes QLinearConv.

    With a scale for each channel the bias stays as it is: ONNX Runtime makes the same integers of
    32 bits of it when it loads the file, and a scale for each of them would double its bytes. With
    one scale for all it makes a graph that it refuses (onnxruntime 1.31,
    onnxruntime/core/optimizer/qdq_transformer/weight_bias_quantization.cc).
    """
    _, scale, _ = draft.activations[layer.data, FIXED]
    name, bias, least, form = node.name, None, None, "filters"
    if len(node.input) > 2 and node.input[2]:
        bias = draft.model.array(draft.sources[node.input[2]])
    if node.name in draft.plan.corrections:
        bias = _corrected(draft, node, bias)
    if bias is not None:
        least = least_scales(bias, numpy_helper.to_array(draft.made[scale]))
        if not how.per_channel:
            least = least.max(keepdims=True)
        form = f"filters beside {node.input[2]} and {scale}"
    codes, factor, zero = draft.weight(layer.weights[0], form, how, least)
    axis: dict[str, Any] = {"axis": 0} if how.per_channel else {}
    if how.per_channel:
        draft.made.pop(zero, None)  # filters are symmetric: without one 0 is meant
    parts = [codes, factor] if how.per_channel else [codes, factor, zero]
    draft.add("DequantizeLinear", parts, f"{name}_w", **axis)
    node.input[0], node.input[1] = draft.decoded[layer.data], f"{name}_w:0"
    if bias is not None:
        factors = [numpy_helper.to_array(draft.made[part]) for part in (scale, factor)]
        whole, unit = quantize_bias(bias, *factors)  # raises where 32 bits would not hold it
        if not how.per_channel:
            pair = [f"{name}_bias_quantized", f"{name}_bias_scale"]
            for part, values in zip(pair, (whole, unit), strict=True):
                draft.made[part] = array_tensor(values, part)
            draft.add("DequantizeLinear", pair, f"{name}_b")
            node.input[2] = f"{name}_b:0"
    draft.nodes.append(node)


def _corrected(
    draft: Draft, node: NodeProto, bias: np.ndarray[Any, Any] | None
) -> np.ndarray[Any, Any]:
    """Add a plan's correction to a convolution's bias, which it may lack; give the sum."""
    moved = draft.plan.corrections[node.name].values
    made = moved if bias is None else bias + moved
    name = f"{node.name}_bias_corrected"
    draft.made[name] = array_tensor(made.astype(np.float32), name)
    del node.input[2:]
    node.input.append(name)
    return made


def lstm(draft: Draft, node: NodeProto, layer: Layer, how: LayerPlan) -> None:
    """Write an LSTM with int8 weights; it rounds its input and its state at run time.

    Source: `onnxruntime.quantization.operators.lstm`.
    """
    weights = [draft.weight(name, "recurrent", how) for name in layer.weights]
    others = [draft.decoded.get(name, name) for name in node.input]
    others += [""] * (LSTM_INPUTS - len(others))
    scales = [part for _, scale, zero in weights for part in (scale, zero)]
    inputs = [others[0], *(codes for codes, _, _ in weights), *others[3:], *scales]
    made = helper.make_node("DynamicQuantizeLSTM", inputs, node.output, f"{node.name}_quant")
    made.domain = MICROSOFT
    made.attribute.extend(a for a in node.attribute if a.name != "layout")  # 0, or it was refused
    draft.nodes.append(made)


def attention(draft: Draft, node: NodeProto, layer: Layer, how: LayerPlan) -> None:
    """Write fused attention as QAttention."""
    data, scale, zero = draft.activation(layer.data, how.activation)
    weight, weight_scale, weight_zero = draft.weight(layer.weights[0], "linear", how)
    mask = node.input[3] if len(node.input) > 3 else ""
    past = node.input[4] if len(node.input) > 4 else ""
    inputs = [data, weight, node.input[2], scale, weight_scale, mask, zero, weight_zero, past]
    made = helper.make_node("QAttention", inputs, node.output, f"{node.name}_quant")
    made.domain = MICROSOFT
    unknown = {"qkv_hidden_sizes", "scale"}
    made.attribute.extend(a for a in node.attribute if a.name not in unknown)
    draft.nodes.append(made)
