"""The nodes that a table of embeddings gives way to."""

from __future__ import annotations

from onnx import NodeProto, TensorProto, helper

from edgecompress.quantization.graphs.layers import Layer
from edgecompress.quantization.plan.quant_plan import LayerPlan
from edgecompress.quantization.write.draft import MICROSOFT, Draft


def table(draft: Draft, node: NodeProto, layer: Layer, how: LayerPlan) -> None:
    """Write a look-up: in blocks, in a linear layer's weight, or in a table of 8."""
    name = layer.weights[0]
    if how.kernel in ("blocks", "tied"):
        _block_table(draft, node, layer, how)
        return
    if how.kernel == "shared":
        weight, scale, _ = draft.weight(name, "transposed", how)
        _table_by_rows(draft, node, layer, f"{weight}_rows", scale, one=not how.per_channel)
        return
    if how.kernel == "rows":
        weight, scale, _ = draft.weight(name, "rows", how)
        _table_by_rows(draft, node, layer, weight, scale)
        return
    table, scale, zero = draft.weight(name, "table", how)
    out = node.output[0]
    # A linear layer may quantize `out` again, under the name that ends in "_quantized".
    draft.add("Gather", [table, layer.data], node.name, f"{out}_looked_up")
    name = f"{out}_DequantizeLinear"
    draft.add("DequantizeLinear", [f"{out}_looked_up", scale, zero], name, out)


def _table_by_rows(
    draft: Draft, node: NodeProto, layer: Layer, rows: str, scale: str, *, one: bool = False
) -> None:
    """Look up rows that have a scale each, or `one` scale for all."""
    out = node.output[0]
    name, codes, factor = node.name, f"{out}_looked_up", f"{out}_factor"
    draft.add("Gather", [rows, layer.data], name, codes)
    draft.add("Cast", [codes], f"{out}_Cast", f"{out}_as_float", to=TensorProto.FLOAT)
    if one:
        factor = scale
    else:
        draft.add("Gather", [scale, layer.data], f"{name}_scale", f"{factor}s")
        draft.unsqueeze_last(f"{factor}s", factor)
    draft.add("Mul", [f"{out}_as_float", factor], f"{out}_Mul", out)


def _block_table(draft: Draft, node: NodeProto, layer: Layer, how: LayerPlan) -> None:
    name = layer.weights[0]
    if how.kernel == "tied":
        parts = draft.tied_blocks(name, how)
    else:
        parts = draft.blocks(name, draft.model.array(draft.sources[name]), how)[:2]
    inputs, out = [parts[0], layer.data, parts[1]], node.output[0]
    half = parts[1] in draft.made and draft.made[parts[1]].data_type == TensorProto.FLOAT16
    rows = f"{out}_half" if half else out
    made = helper.make_node("GatherBlockQuantized", inputs, [rows], node.name)
    made.domain = MICROSOFT
    given = {"bits": how.bits, "block_size": how.block, "gather_axis": 0, "quantize_axis": 1}
    made.attribute.extend(helper.make_attribute(key, value) for key, value in given.items())
    draft.nodes.append(made)
    if half:
        draft.add("Cast", [rows], f"{out}_Cast", out, to=TensorProto.FLOAT)


def embed_layer_norm(draft: Draft, node: NodeProto, layer: Layer, how: LayerPlan) -> None:
    """Write a fused embedding with its normalization as QEmbedLayerNormalization."""
    parts = [draft.weight(name, "table", how) if name else ("", "", "") for name in layer.weights]
    mask = node.input[7] if len(node.input) > 7 else ""
    inputs = [node.input[0], node.input[1], *(part[0] for part in parts), mask]
    inputs += [part[1] for part in parts] + [part[2] for part in parts]
    made = helper.make_node("QEmbedLayerNormalization", inputs, node.output)
    made.name, made.domain = f"{node.name}_quant", MICROSOFT
    made.attribute.extend(node.attribute)
    draft.nodes.append(made)
