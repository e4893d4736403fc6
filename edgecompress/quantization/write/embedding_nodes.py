"""The nodes that a table of embeddings gives way to."""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto, TensorProto, helper

from edgecompress.quantization.graphs.layers import Layer
from edgecompress.quantization.plan.quant_plan import LayerPlan
from edgecompress.quantization.write.draft import MICROSOFT, Draft

AT_LOAD_BYTES = 4 << 20
"""In float32. A table of no more is decoded once, when the file is loaded: of positions, of
segments. Decoding rows of 4 bits at each inference takes 3 % of that of a small encoder."""


def table(draft: Draft, node: NodeProto, layer: Layer, how: LayerPlan) -> None:
    """Write a look-up: in blocks, in a linear layer's weight, or in a table of 8."""
    name = layer.weights[0]
    alone = how.kernel not in ("tied", "shared")
    if alone and 4 * math.prod(draft.sources[name].dims) <= AT_LOAD_BYTES:
        draft.add("Gather", [_at_load(draft, name, how), layer.data], node.name, node.output[0])
        return
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


def _at_load(draft: Draft, name: str, how: LayerPlan) -> str:
    """Give the table in float32, made once of what is stored: (rows, width)."""
    key = (name, "at load")
    if key in draft.weights:
        return draft.weights[key][0]
    out, (rows, width) = draft.free(f"{name}_at_load"), draft.sources[name].dims
    if how.kernel == "blocks":
        real = _values_of_blocks(draft, name, how)
        draft.add("Reshape", [real, draft.constant([rows, width])], out, out)
    else:
        codes, scale, zero = draft.weight(name, "rows" if how.kernel == "rows" else "table", how)
        real = draft.as_float(codes)
        if how.kernel == "rows":  # its zero points are 0
            scale = draft.number("Reshape", [scale, draft.constant([rows, 1])])
        else:
            real = draft.number("Sub", [real, draft.as_float(zero)])
        draft.add("Mul", [real, scale], out, out)
    draft.weights[key] = (out, "", "")
    return out


def _values_of_blocks(draft: Draft, name: str, how: LayerPlan) -> str:
    """Give the values of blocks of 4 bits: (blocks, values of a block).

    Two share a byte, the first in its lower half.
    """
    packed, scale, _ = draft.blocks(name, draft.model.array(draft.sources[name]), how)
    column = draft.constant([-1, 1])
    codes = draft.number("Reshape", [packed, column])
    up, down = draft.constant([4, 0], np.uint8), draft.constant([4], np.uint8)
    codes = draft.number("BitShift", [codes, up], direction="LEFT")
    codes = draft.number("BitShift", [codes, down], direction="RIGHT")
    codes = draft.number("Cast", [codes], to=TensorProto.FLOAT)
    codes = draft.number("Sub", [codes, draft.constant([8], np.float32)])
    codes = draft.number("Reshape", [codes, draft.constant([-1, how.block])])
    scales = draft.number("Reshape", [draft.as_float(scale), column])
    return draft.number("Mul", [codes, scales])


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
        codes, scale = draft.tied_blocks(name, how)
    else:
        codes, scale, _ = draft.blocks(name, draft.model.array(draft.sources[name]), how)
    # With scales of 16 bits the kernel rounds each value to 16 bits, and takes longer.
    inputs = [codes, layer.data, draft.as_float(scale)]
    made = helper.make_node("GatherBlockQuantized", inputs, node.output, node.name)
    made.domain = MICROSOFT
    given = {"bits": how.bits, "block_size": how.block, "gather_axis": 0, "quantize_axis": 1}
    made.attribute.extend(helper.make_attribute(key, value) for key, value in given.items())
    draft.nodes.append(made)


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
