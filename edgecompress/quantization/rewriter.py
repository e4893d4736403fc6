"""One rewrite of a graph: each layer that is quantized gives way to the nodes that compute it.

`edgecompress.quantization.rewrite` says what is rewritten and checks that it can be.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgecompress.errors import StageError
from edgecompress.quantization.blocks import (
    SMALLEST_BLOCK,
    Bits,
    fitting_block,
    quantize_block_table,
    quantize_blocks,
)
from edgecompress.quantization.layers import Layer, find_layers
from edgecompress.quantization.regions import (
    Regions,
    find_regions,
    quantize_bias,
    quantize_filters,
)
from edgecompress.quantization.scheme import EXCLUDED, LEAST_TABLE, NOT_ASKED, Scheme
from edgecompress.quantization.storage import StoredModel
from edgecompress.quantization.weights import (
    Quantized,
    array_tensor,
    asymmetric,
    quantize_linear,
    quantize_table,
    scalar,
    symmetric,
)

MICROSOFT = "com.microsoft"
NO_KERNEL = "ONNX Runtime has no integer kernel for it as it stands here"
INT8_COMPUTE = 4
"""`accuracy_level` of MatMulNBits at which it quantizes its input, too."""


def regions_of(model: StoredModel, kept: frozenset[str]) -> Regions:
    """Find the tensors around convolutions, but for those that are `kept` in fp32."""
    graph = model.proto.graph
    convolutions = {
        layer.node
        for layer in find_layers(model)
        if layer.kind == "conv" and not layer.refused and not kept & {layer.node, *layer.weights}
    }
    return find_regions(graph.node, [value.name for value in graph.output], convolutions)


class Rewriter:
    """State of one rewrite: new nodes and initializers, and what was quantized already."""

    def __init__(self, model: StoredModel, scheme: Scheme) -> None:
        self.model, self.scheme = model, scheme
        self.sources = {tensor.name: tensor for tensor in model.proto.graph.initializer}
        self.nodes: list[NodeProto] = []
        self.made: dict[str, TensorProto] = {}
        self.weights: dict[tuple[str, str], tuple[str, str, str]] = {}
        self.activations: dict[str, tuple[str, str, str]] = {}
        self.table_values = 0
        self.shared: set[str] = set()
        static = scheme.ranges is not None and scheme.linears == "int8"
        self.regions = (
            regions_of(model, scheme.exclude | scheme.as_integers) if static else Regions({})
        )
        self.outputs = {value.name for value in model.proto.graph.output}
        self.decoded: dict[str, str] = {}
        self.taken = {*self.sources, *(o for n in model.proto.graph.node for o in n.output)}

    def _stem(self, name: str) -> str:
        """Give what the parts of `name` are called after: another where it was quantized before."""
        while f"{name}_quantized" in self.taken:
            name = f"{name}_again"
        return name

    def run(self) -> tuple[StoredModel, dict[str, str]]:
        """Rewrite the graph in place; give it, and by node why a layer was left alone."""
        layers = {layer.node: layer for layer in find_layers(self.model)}
        tables = {one.weights[0] for one in layers.values() if one.kind == "table"}
        self.table_values = sum(math.prod(self.sources[name].dims) for name in tables)
        self.shared = self._shared_weights(layers.values())
        reasons: dict[str, str] = {}
        for value in self.model.proto.graph.input:
            if value.name in self.regions.sources:
                self._keep_in_8_bits(value.name)
        for node in list(self.model.proto.graph.node):
            layer = layers.get(node.name)
            reason = self._reason(layer) if layer else ""
            outputs = list(node.output)
            for place, name in enumerate(outputs):
                if name in self.regions.sources and name in self.outputs:
                    node.output[place] = f"{name}_raw"
            if layer is not None and not reason:
                getattr(self, f"_{layer.kind}")(node, layer)
            else:
                reasons |= {node.name: reason} if reason else {}
                self._as_it_is(node)
            for name in outputs:
                if name in self.regions.sources:
                    self._keep_in_8_bits(name)
        return self._finish(), reasons

    def _as_it_is(self, node: NodeProto) -> None:
        """Keep a node; what is kept in 8 bits it reads decoded, or its shape as it is."""
        names = (
            {name: parts[0] for name, parts in self.activations.items()}
            if node.op_type == "Shape"
            else self.decoded
        )
        for place, name in enumerate(node.input):
            if name in self.decoded:
                node.input[place] = names[name]
        self.nodes.append(node)

    def _keep_in_8_bits(self, name: str) -> None:
        """Put a QDQ pair behind a tensor of a region; all that follows reads what comes out."""
        source = self.regions.sources[name]
        stem, factors = self._stem(name), self._stem(source)
        quantized, scale, zero = f"{stem}_quantized", f"{factors}_scale", f"{factors}_zero_point"
        if scale not in self.made:
            if source not in (self.scheme.ranges or {}):
                raise StageError(f"no activation range was measured for {source}")
            low, high = (self.scheme.ranges or {})[source]
            # uint8 even where linear layers take int8: on x86 ONNX Runtime folds no Relu into int8.
            factor, middle = asymmetric(low, high)
            self.made[scale], self.made[zero] = scalar(factor, scale), scalar(middle, zero)
        last = name in self.outputs
        decoded = name if last else f"{stem}_decoded"
        raw = f"{name}_raw" if last else name
        ends = [scale, zero]
        made = helper.make_node("QuantizeLinear", [raw, *ends], [quantized], f"{stem}_Quantize")
        self.nodes.append(made)
        self._add("DequantizeLinear", [quantized, *ends], f"{stem}_Dequantize", decoded)
        self.activations[name] = (quantized, scale, zero)
        self.decoded[name] = decoded

    def _reason(self, layer: Layer) -> str:
        """Say why a layer stays as it is; empty where it does not."""
        if self.scheme.exclude & {layer.node, *layer.weights}:
            return EXCLUDED
        if layer.kind in {"table", "embed_layer_norm"}:
            return layer.refused if self.scheme.embeddings else NOT_ASKED[layer.kind]
        if self.scheme.linears == "off":
            return NOT_ASKED[layer.kind]
        if layer.kind == "conv":
            if self.scheme.linears != "int8" or self.scheme.ranges is None:
                return NOT_ASKED["conv"]
            if layer.weights[0] in self.scheme.as_integers:
                return NO_KERNEL
        if self.scheme.linears == "blocks":
            if layer.kind == "attention":
                return "fused attention has no kernel for weights in blocks"
            width = self.sources[layer.weights[0]].dims[1 if layer.transposed else 0]
            if fitting_block(width, self.scheme.linear_block) is None:
                return f"its {width} inputs are no multiple of {SMALLEST_BLOCK}"
        return layer.refused

    def _shared_weights(self, layers: Iterable[Layer]) -> set[str]:
        """Find the tables that are also the weight of a linear layer, and can be stored once.

        The layer's scale for each output is one for each row of the table. With a zero point of 0
        a row that is looked up needs nothing else.
        """
        if self.scheme.unsigned_weights or not self.scheme.symmetric_weights:
            return set()
        if self.scheme.linears != "int8" or not self.scheme.share:
            return set()
        done = [layer for layer in layers if not self._reason(layer)]
        looked_up = {
            layer.weights[0]
            for layer in done
            if layer.kind == "table" and self._block_of_table(layer) is None
        }
        multiplied = [layer for layer in done if layer.kind in {"matmul", "gemm"}]
        turned = {layer.weights[0] for layer in multiplied if layer.transposed}
        straight = {layer.weights[0] for layer in multiplied if not layer.transposed}
        return (looked_up & turned) - straight

    def _finish(self) -> StoredModel:
        proto = self.model.proto
        graph = proto.graph
        graph_outputs = {value.name for value in graph.output}
        # Transposes of weights that were folded are dead now; one pass per link of a chain.
        while True:
            used = _used(self.nodes) | graph_outputs
            alive = [n for n in self.nodes if any(name in used for name in n.output)]
            if len(alive) == len(self.nodes):
                break
            self.nodes = alive
        kept = [t for t in graph.initializer if t.name in used] + list(self.made.values())
        inputs = [v for v in graph.input if v.name in used or v.name not in self.sources]
        for field, values in (("node", alive), ("initializer", kept), ("input", inputs)):
            graph.ClearField(field)
            getattr(graph, field).extend(values)
        if any(n.domain == MICROSOFT for n in alive) and all(
            o.domain != MICROSOFT for o in proto.opset_import
        ):
            proto.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
        names = {tensor.name for tensor in kept}
        places = {name: place for name, place in self.model.places.items() if name in names}
        return StoredModel(proto, places)

    def _weight(self, name: str, form: str) -> tuple[str, str, str]:
        """Quantize the initializer `name` once per `form`; give the names of its three parts."""
        if (name, form) in self.weights:
            return self.weights[name, form]
        array = self.model.array(self.sources[name])
        made: Quantized
        if form == "table":
            made = quantize_table(array)
        elif form == "filters":
            made = quantize_filters(
                array, per_channel=self.scheme.per_channel, reduce_range=self.scheme.reduce_range
            )
        else:
            made = quantize_linear(
                np.ascontiguousarray(array.T) if form == "transposed" else array,
                per_channel=self.scheme.per_channel,
                reduce_range=self.scheme.reduce_range,
                unsigned=self.scheme.unsigned_weights,
                symmetric=self.scheme.symmetric_weights,
            )
        taken = any(known == name for known, _ in self.weights)
        tensors = made.tensors(self._stem(f"{name}_{form}" if taken else name))
        self.made |= {tensor.name: tensor for tensor in tensors}
        if name in self.shared:  # stored as the table; ONNX Runtime turns it once, when it loads
            turned, rows = tensors[0].name, f"{tensors[0].name}_rows"
            self.made.pop(turned)
            self.made[rows] = array_tensor(np.ascontiguousarray(made.values.T), rows)
            self._add("Transpose", [rows], f"{turned}_Transpose", turned, perm=[1, 0])
        names = (tensors[0].name, tensors[1].name, tensors[2].name)
        self.weights[name, form] = names
        return names

    def _activation(self, name: str) -> tuple[str, str, str]:
        """Quantize a linear layer's input once; give the names of its three parts."""
        if name in self.activations:
            return self.activations[name]
        stem = self._stem(name)
        parts = (f"{stem}_quantized", f"{stem}_scale", f"{stem}_zero_point")
        if self.scheme.ranges is None:
            node = helper.make_node("DynamicQuantizeLinear", [name], parts, f"{stem}_Quantize")
        else:
            if name not in self.scheme.ranges:
                raise StageError(f"no activation range was measured for {name}")
            find = symmetric if self.scheme.signed_activations else asymmetric
            scale, zero_point = find(*self.scheme.ranges[name])
            self.made[parts[1]] = scalar(scale, parts[1])
            self.made[parts[2]] = scalar(zero_point, parts[2])
            inputs = [name, parts[1], parts[2]]
            node = helper.make_node("QuantizeLinear", inputs, parts[:1], f"{stem}_Quantize")
        self.nodes.append(node)
        self.activations[name] = parts
        return parts

    def _matmul(self, node: NodeProto, layer: Layer) -> None:
        if self.scheme.linears == "blocks":
            self._block_matmul(node, layer)
            return
        data, scale, zero = self._activation(layer.data)
        form = "transposed" if layer.transposed else "linear"
        weight, weight_scale, weight_zero = self._weight(layer.weights[0], form)
        name, out = node.name, node.output[0]
        integers = layer.kind == "gemm" or layer.weights[0] in self.scheme.as_integers
        if self.scheme.ranges is not None and not integers:
            axis: dict[str, Any] = {"axis": 1} if self.scheme.per_channel else {}
            self._add("DequantizeLinear", [data, scale, zero], f"{name}_input")
            self._add("DequantizeLinear", [weight, weight_scale, weight_zero], f"{name}_w", **axis)
            self._add("MatMul", [f"{name}_input:0", f"{name}_w:0"], f"{name}_quant", out)
            return
        self._add("MatMulInteger", [data, weight, zero, weight_zero], f"{name}_quant")
        self._add("Cast", [f"{name}_quant:0"], f"{name}_quant_cast", to=TensorProto.FLOAT)
        self._add("Mul", [scale, weight_scale], f"{name}_quant_scales_mul")
        inputs = [f"{name}_quant_cast:0", f"{name}_quant_scales_mul:0"]
        self._add("Mul", inputs, f"{name}_quant_output_scale_mul", out)

    def _block_matmul(self, node: NodeProto, layer: Layer) -> None:
        name = layer.weights[0]
        array = self.model.array(self.sources[name])
        rows = array if layer.transposed else np.ascontiguousarray(array.T)
        outputs, inputs = rows.shape
        block = fitting_block(inputs, self.scheme.linear_block)
        parts = self._blocks(name, rows, self.scheme.linear_bits, block or 0, linear=True)
        made = helper.make_node("MatMulNBits", [layer.data, *parts], node.output, node.name)
        made.domain = MICROSOFT
        given = {"K": inputs, "N": outputs, "bits": self.scheme.linear_bits, "block_size": block}
        given["accuracy_level"] = INT8_COMPUTE
        made.attribute.extend(helper.make_attribute(key, value) for key, value in given.items())
        self.nodes.append(made)

    def _blocks(
        self, name: str, rows: np.ndarray[Any, Any], bits: Bits, block: int, *, linear: bool = False
    ) -> tuple[str, str]:
        """Quantize `rows` in blocks once; give the names of the codes and of the scales."""
        key = (name, f"blocks of {bits} for {'MatMulNBits' if linear else 'Gather'}")
        if key not in self.weights:
            search = self.scheme.search
            if linear:
                ready = self.scheme.blocks.get(name)
                made = ready or quantize_blocks(rows, bits, block, search=search)
            else:
                made = quantize_block_table(rows, block, search=search)
            packed, scale = made.packed, made.scale
            if linear:  # MatMulNBits wants (outputs, blocks, bytes of a block) and flat scales
                packed = packed.reshape(len(rows), -1, block * bits // 8)
                scale = scale.ravel()
            taken = any(known == name for known, _ in self.weights)
            stem = f"{name}_{'linear' if linear else 'table'}" if taken else name
            parts = (f"{stem}_q{bits}", f"{stem}_scales")
            self.made[parts[0]] = array_tensor(packed, parts[0])
            self.made[parts[1]] = array_tensor(scale, parts[1])
            self.weights[key] = (*parts, "")
        return self.weights[key][:2]

    def _gemm(self, node: NodeProto, layer: Layer) -> None:
        bias = node.input[2] if len(node.input) > 2 else ""
        out = node.output[0]
        product = NodeProto(name=node.name, output=[f"{out}_MatMul"] if bias else [out])
        self._matmul(product, layer)
        if bias:
            self._add("Add", [f"{out}_MatMul", bias], f"{node.name}_Add", out)

    def _conv(self, node: NodeProto, layer: Layer) -> None:
        _, scale, _ = self.activations[layer.data]
        weight = self._weight(layer.weights[0], "filters")
        name = node.name
        axis: dict[str, Any] = {"axis": 0} if self.scheme.per_channel else {}
        self._add("DequantizeLinear", list(weight), f"{name}_w", **axis)
        node.input[0], node.input[1] = self.decoded[layer.data], f"{name}_w:0"
        if len(node.input) > 2 and node.input[2]:
            bias = self.model.array(self.sources[node.input[2]])
            factors = [numpy_helper.to_array(self.made[part]) for part in (scale, weight[1])]
            codes, unit = quantize_bias(bias, *factors)
            parts = [f"{name}_bias_quantized", f"{name}_bias_scale"]
            for part, values in zip(parts, (codes, unit), strict=True):
                self.made[part] = array_tensor(values, part)
            self._add("DequantizeLinear", parts, f"{name}_b", **axis)
            node.input[2] = f"{name}_b:0"
        self.nodes.append(node)

    def _attention(self, node: NodeProto, layer: Layer) -> None:
        data, scale, zero = self._activation(layer.data)
        weight, weight_scale, weight_zero = self._weight(layer.weights[0], "linear")
        mask = node.input[3] if len(node.input) > 3 else ""
        past = node.input[4] if len(node.input) > 4 else ""
        inputs = [data, weight, node.input[2], scale, weight_scale, mask, zero, weight_zero, past]
        made = helper.make_node("QAttention", inputs, node.output, f"{node.name}_quant")
        made.domain = MICROSOFT
        unknown = {"qkv_hidden_sizes", "scale"}
        made.attribute.extend(a for a in node.attribute if a.name not in unknown)
        self.nodes.append(made)

    def _table(self, node: NodeProto, layer: Layer) -> None:
        block = self._block_of_table(layer)
        if block is not None:
            self._block_table(node, layer, block)
            return
        if layer.weights[0] in self.shared:
            self._shared_table(node, layer)
            return
        table, scale, zero = self._weight(layer.weights[0], "table")
        out = node.output[0]
        # A linear layer may quantize `out` again, under the name that ends in "_quantized".
        self._add("Gather", [table, layer.data], node.name, f"{out}_looked_up")
        name = f"{out}_DequantizeLinear"
        self._add("DequantizeLinear", [f"{out}_looked_up", scale, zero], name, out)

    def _shared_table(self, node: NodeProto, layer: Layer) -> None:
        """Look rows up in the weight of a linear layer; each has a scale of its own."""
        weight, scale, _ = self._weight(layer.weights[0], "transposed")
        out = node.output[0]
        name, codes, factor = node.name, f"{out}_looked_up", f"{out}_factor"
        self._add("Gather", [f"{weight}_rows", layer.data], name, codes)
        self._add("Cast", [codes], f"{out}_Cast", f"{out}_as_float", to=TensorProto.FLOAT)
        if self.scheme.per_channel:
            self._add("Gather", [scale, layer.data], f"{name}_scale", f"{factor}s")
            self._unsqueeze_last(f"{factor}s", factor)
        else:
            factor = scale
        self._add("Mul", [f"{out}_as_float", factor], f"{out}_Mul", out)

    def _unsqueeze_last(self, name: str, out: str) -> None:
        """Add an axis of one at the end; opset 13 made the axes an input."""
        opsets = {opset.domain: opset.version for opset in self.model.proto.opset_import}
        if opsets.get("", opsets.get("ai.onnx", 0)) < 13:
            self._add("Unsqueeze", [name], f"{out}_Unsqueeze", out, axes=[-1])
            return
        axes = f"{out}_axes"
        self.made[axes] = array_tensor(np.array([-1], np.int64), axes)
        self._add("Unsqueeze", [name, axes], f"{out}_Unsqueeze", out)

    def _block_of_table(self, layer: Layer) -> int | None:
        """Give the block of a table that takes 4 bits; None: it takes 8."""
        if self.scheme.embedding_bits != 4:
            return None
        rows, width = self.sources[layer.weights[0]].dims
        if rows * width < LEAST_TABLE * self.table_values:
            return None
        return fitting_block(width, self.scheme.embedding_block)

    def _block_table(self, node: NodeProto, layer: Layer, block: int) -> None:
        name = layer.weights[0]
        parts = self._blocks(name, self.model.array(self.sources[name]), 4, block)
        inputs, out = [parts[0], layer.data, parts[1]], node.output[0]
        half = self.made[parts[1]].data_type == TensorProto.FLOAT16
        rows = f"{out}_half" if half else out
        made = helper.make_node("GatherBlockQuantized", inputs, [rows], node.name)
        made.domain = MICROSOFT
        given = {"bits": 4, "block_size": block, "gather_axis": 0, "quantize_axis": 1}
        made.attribute.extend(helper.make_attribute(key, value) for key, value in given.items())
        self.nodes.append(made)
        if half:
            self._add("Cast", [rows], f"{out}_Cast", out, to=TensorProto.FLOAT)

    def _embed_layer_norm(self, node: NodeProto, layer: Layer) -> None:
        parts = [self._weight(name, "table") if name else ("", "", "") for name in layer.weights]
        mask = node.input[7] if len(node.input) > 7 else ""
        inputs = [node.input[0], node.input[1], *(part[0] for part in parts), mask]
        inputs += [part[1] for part in parts] + [part[2] for part in parts]
        made = helper.make_node("QEmbedLayerNormalization", inputs, node.output)
        made.name, made.domain = f"{node.name}_quant", MICROSOFT
        made.attribute.extend(node.attribute)
        self.nodes.append(made)

    def _add(self, op: str, inputs: list[str], name: str, out: str = "", **given: Any) -> None:
        self.nodes.append(helper.make_node(op, inputs, [out or f"{name}:0"], name, **given))


def _used(nodes: list[NodeProto]) -> set[str]:
    names: set[str] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        names.update(node.input)
        for found in node.attribute:
            if found.HasField("g"):
                pending.extend(found.g.node)
                names.update(value.name for value in found.g.output)
    return names
