"""A quantized graph while it is written: its nodes, and what was quantized for them already."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgecompress.errors import StageError
from edgecompress.models.storage import StoredModel
from edgecompress.quantization.arithmetic.blocks import (
    Blocks,
    quantize_block_table,
    quantize_blocks,
)
from edgecompress.quantization.arithmetic.lines import quantize_lines
from edgecompress.quantization.arithmetic.weights import (
    Quantized,
    array_tensor,
    asymmetric,
    quantize_linear,
    quantize_recurrent,
    quantize_rows,
    quantize_table,
    scalar,
    symmetric,
)
from edgecompress.quantization.graphs.layers import Layer, names_read
from edgecompress.quantization.graphs.regions import quantize_filters
from edgecompress.quantization.plan.quant_plan import Activation, LayerPlan, QuantPlan
from edgecompress.quantization.write.block_nodes import offset_nodes, scale_nodes

MICROSOFT = "com.microsoft"
FIXED = True
"""Of an activation's range, beside one that is found at run time."""


def quantize_weight(
    weight: np.ndarray[Any, Any],
    form: str,
    how: LayerPlan,
    least: np.ndarray[Any, Any] | None = None,
) -> Quantized:
    """Quantize a weight to 8 bits in the form in which a layer reads it.

    Parameters
    ----------
    weight : ndarray, float32
    form : str
        ``linear``, ``transposed`` (the integers are turned), ``table`` (one scale), ``rows`` (one
        for each row), ``recurrent``, or what begins with ``filters``.
    how : LayerPlan
    least : ndarray, optional
        The smallest scales of a convolution's filters.
    """
    if form == "table":
        return quantize_table(weight)
    if form == "rows":
        return quantize_rows(weight)
    if form.startswith("filters"):
        return quantize_filters(
            weight, per_channel=how.per_channel, reduce_range=how.reduce_range, least=least
        )
    if form == "recurrent":
        return quantize_recurrent(
            weight, per_channel=how.per_channel, reduce_range=how.reduce_range
        )
    return quantize_linear(
        np.ascontiguousarray(weight.T) if form == "transposed" else weight,
        per_channel=how.per_channel,
        reduce_range=how.reduce_range,
        unsigned=how.unsigned,
        symmetric=how.symmetric,
    )


class Draft:
    """New nodes and initializers; each weight and each input is quantized once.

    Attributes
    ----------
    model : StoredModel
        What is rewritten.
    plan : QuantPlan
    sources : dict of str to TensorProto
        The initializers of `model`.
    nodes : list of NodeProto
    made : dict of str to TensorProto
        New initializers.
    weights : dict
        By weight and form the names of its quantized parts.
    activations : dict
        By tensor, and whether its range is fixed, the names of its integers, scale and zero point.
    decoded : dict of str to str
        By tensor that is kept in 8 bits its name behind the QDQ pair.
    shared : set of str
        Tables that are stored as the weight of a linear layer.
    """

    def __init__(self, model: StoredModel, plan: QuantPlan, layers: Iterable[Layer]) -> None:
        self.model, self.plan = model, plan
        self.sources = {tensor.name: tensor for tensor in model.proto.graph.initializer}
        self.nodes: list[NodeProto] = []
        self.made: dict[str, TensorProto] = {}
        self.weights: dict[tuple[str, str], tuple[str, str, str]] = {}
        self.activations: dict[tuple[str, bool], tuple[str, str, str]] = {}
        self.decoded: dict[str, str] = {}
        self.numbers = 0
        self.shared = {
            layer.weights[0]
            for layer in layers
            if (how := plan.layers.get(layer.node)) and how.kernel == "shared"
        }
        self.taken = {*self.sources, *(o for n in model.proto.graph.node for o in n.output)}

    def add(self, op: str, inputs: list[str], name: str, out: str = "", **given: Any) -> None:
        """Append a node with one output, `out` or one that is called after the node."""
        self.nodes.append(helper.make_node(op, inputs, [out or f"{name}:0"], name, **given))

    def stem(self, name: str) -> str:
        """Give what the parts of `name` are called after: another where it was quantized before."""
        while f"{name}_quantized" in self.taken:
            name = f"{name}_again"
        return name

    def weight(
        self, name: str, form: str, how: LayerPlan, least: np.ndarray[Any, Any] | None = None
    ) -> tuple[str, str, str]:
        """Quantize the initializer `name` once per `form`; give the names of its three parts.

        `least` are the smallest scales of a convolution's filters.
        """
        if (name, form) in self.weights:
            return self.weights[name, form]
        ready = self.plan.codes.get(name)
        if isinstance(ready, Quantized) and form in ("linear", "transposed"):
            made = ready
        else:
            made = quantize_weight(self.model.array(self.sources[name]), form, how, least)
        if form.startswith("filters") and (same := self._same_filters(name, made)):
            self.weights[name, form] = same
            return same
        taken = any(known == name for known, _ in self.weights)
        tensors = made.tensors(self.stem(f"{name}_{form}" if taken else name))
        self.made |= {tensor.name: tensor for tensor in tensors}
        if name in self.shared:  # stored as the table; ONNX Runtime turns it once, when it loads
            turned, rows = tensors[0].name, f"{tensors[0].name}_rows"
            self.made.pop(turned)
            self.made[rows] = array_tensor(np.ascontiguousarray(made.values.T), rows)
            self.add("Transpose", [rows], f"{turned}_Transpose", turned, perm=[1, 0])
        names = (tensors[0].name, tensors[1].name, tensors[2].name)
        self.weights[name, form] = names
        return names

    def _same_filters(self, name: str, made: Quantized) -> tuple[str, str, str] | None:
        """Give the parts that hold these filters already: most biases ask for no larger scale."""
        for (known, form), parts in self.weights.items():
            if known == name and form.startswith("filters"):
                values, scale = (numpy_helper.to_array(self.made[part]) for part in parts[:2])
                if np.array_equal(values, made.values) and np.array_equal(scale, made.scale):
                    return parts
        return None

    def activation(self, name: str, how: Activation) -> tuple[str, str, str]:
        """Quantize a linear layer's input once each way; give the names of its three parts."""
        key = (name, how != "dynamic")
        if key in self.activations:
            return self.activations[key]
        stem = self.stem(name)
        if any(known == name for known, _ in self.activations):
            stem = f"{stem}_{'fixed' if how != 'dynamic' else how}"
        parts = (f"{stem}_quantized", f"{stem}_scale", f"{stem}_zero_point")
        if how == "dynamic":
            real = self.decoded.get(name, name)
            node = helper.make_node("DynamicQuantizeLinear", [real], parts, f"{stem}_Quantize")
        else:
            if name not in self.plan.ranges:
                raise StageError(f"no activation range was measured for {name}")
            find = symmetric if how == "int8" else asymmetric
            scale, zero_point = find(*self.plan.ranges[name])
            self.made[parts[1]] = scalar(scale, parts[1])
            self.made[parts[2]] = scalar(zero_point, parts[2])
            inputs = [name, parts[1], parts[2]]
            node = helper.make_node("QuantizeLinear", inputs, parts[:1], f"{stem}_Quantize")
        self.nodes.append(node)
        self.activations[key] = parts
        return parts

    def blocks(
        self, name: str, rows: np.ndarray[Any, Any], how: LayerPlan, *, linear: bool = False
    ) -> tuple[str, str, str]:
        """Quantize `rows` in blocks once; give the names of codes, scales and offsets.

        The last is empty where there are none.
        """
        bits, block = how.bits, how.block
        key = (name, f"blocks of {bits} for {'MatMulNBits' if linear else 'Gather'}")
        if key not in self.weights:
            ready = self.plan.codes.get(name)
            if not linear:
                made = quantize_block_table(rows, block, search=how.search)
            elif isinstance(ready, Blocks):
                made = ready
            elif how.offsets:
                made = quantize_lines(rows, bits, block, search=how.search)
            else:
                made = quantize_blocks(rows, bits, block, search=how.search)
            packed, scale = made.packed, made.scale
            if linear:  # MatMulNBits wants (outputs, blocks, bytes of a block) and flat scales
                packed = packed.reshape(len(rows), -1, block * bits // 8)
                scale = scale.ravel()
            taken = any(known == name for known, _ in self.weights)
            stem = f"{name}_{'linear' if linear else 'table'}" if taken else name
            codes, scales, offsets = f"{stem}_q{bits}", f"{stem}_scales", ""
            self.made[codes] = array_tensor(packed, codes)
            if made.eight is None or made.eight.counts is None:
                self.made[scales] = array_tensor(scale, scales)
            else:
                rowed = scale_nodes(self, stem, made.eight)
                scales = self.number("Reshape", [rowed, self.constant([-1])])
                offsets = offset_nodes(self, stem, rowed, made.eight.counts)
            self.weights[key] = (codes, scales, offsets)
        return self.weights[key]

    def tied_blocks(self, name: str, how: LayerPlan) -> tuple[str, str]:
        """Quantize a table once for look-ups and products; give the names of codes and scales.

        Both are stored as the look-up reads them, (rows, …).
        """
        key = (name, f"tied blocks of {how.bits}")
        if key not in self.weights:
            made = self.plan.codes.get(name)
            if not isinstance(made, Blocks):
                rows = self.model.array(self.sources[name])
                if how.bits == 4:
                    made = quantize_block_table(rows, how.block, search=how.search)
                elif how.offsets:  # a look-up has none, but its scales take 8 bits, too
                    made = quantize_lines(rows, how.bits, how.block, offsets=False)
                else:
                    made = quantize_blocks(rows, how.bits, how.block)
            parts = (f"{name}_q{how.bits}", f"{name}_scales")
            self.made[parts[0]] = array_tensor(made.packed, parts[0])
            if made.eight is None:
                self.made[parts[1]] = array_tensor(made.scale, parts[1])
            else:
                parts = (parts[0], scale_nodes(self, parts[1], made.eight))
            self.weights[key] = (*parts, "")
        return self.weights[key][:2]

    def tied_product(self, name: str, how: LayerPlan) -> tuple[str, str]:
        """Give the same blocks as MatMulNBits reads them: ONNX Runtime makes them when it loads."""
        codes, scale = self.tied_blocks(name, how)
        turned, flat = f"{codes}_blocks", f"{scale}_flat"
        if turned not in self.taken:
            self.taken |= {turned, flat}
            rows, _ = self.made[codes].dims
            shape = self.constant([rows, -1, how.block * how.bits // 8])
            self.add("Reshape", [codes, shape], f"{turned}_Reshape", turned)
            self.add(
                "Reshape", [self.as_float(scale), self.constant([-1])], f"{flat}_Reshape", flat
            )
        return turned, flat

    def as_float(self, name: str) -> str:
        """Give a constant in float32: ONNX Runtime casts it once, when it loads the file."""
        if name not in self.made or self.made[name].data_type == TensorProto.FLOAT:
            return name
        key = (name, "as float")
        if key not in self.weights:
            self.weights[key] = (self.number("Cast", [name], to=TensorProto.FLOAT), "", "")
        return self.weights[key][0]

    def constant(self, values: list[int], dtype: type = np.int64) -> str:
        """Keep a few numbers once, under a short name; give it."""
        name = self.free(f"{np.dtype(dtype).char}{values}".replace(" ", ""))
        if name not in self.made:
            self.made[name] = array_tensor(np.array(values, dtype), name)
        return name

    def number(self, op: str, inputs: list[str], **given: Any) -> str:
        """Append a node whose name and output are a number; give it."""
        self.numbers += 1
        while f"#{self.numbers}" in self.taken:
            self.numbers += 1
        name = f"#{self.numbers}"
        self.add(op, inputs, name, name, **given)
        return name

    def free(self, name: str) -> str:
        """Give a name that the source's graph does not have."""
        while name in self.taken:
            name = f"{name}_again"
        return name

    def unsqueeze_last(self, name: str, out: str) -> None:
        """Add an axis of one at the end; opset 13 made the axes an input."""
        opsets = {opset.domain: opset.version for opset in self.model.proto.opset_import}
        if opsets.get("", opsets.get("ai.onnx", 0)) < 13:
            self.add("Unsqueeze", [name], f"{out}_Unsqueeze", out, axes=[-1])
            return
        axes = f"{out}_axes"
        self.made[axes] = array_tensor(np.array([-1], np.int64), axes)
        self.add("Unsqueeze", [name, axes], f"{out}_Unsqueeze", out)

    def finish(self) -> StoredModel:
        """Put the new nodes and initializers into the graph, without what nothing reads."""
        proto = self.model.proto
        graph = proto.graph
        graph_outputs = {value.name for value in graph.output}
        # Transposes of weights that were folded are dead now; one pass per link of a chain.
        while True:
            used = names_read(self.nodes) | graph_outputs
            alive = [n for n in self.nodes if any(name in used for name in n.output)]
            if len(alive) == len(self.nodes):
                break
            self.nodes = alive
        kept = [t for t in (*graph.initializer, *self.made.values()) if t.name in used]
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
