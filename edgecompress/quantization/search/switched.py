"""One fp32 session in which any weight and any input of a layer can be quantized alone.

Weights are inputs of the graph with a default, so that one run can be given another one; the input
of each linear layer passes an If whose condition is false by default and that else rounds it to 8
bits and back. What is measured so is the rounding itself, in the arithmetic of the quantizer; the
integer kernels differ from it in the last bits of fp32, and on x86 without VNNI where they
saturate. Nothing is written per layer, and memory is that of one model and one weight.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from onnx import NodeProto, TensorProto, helper

from edgecompress.errors import StageError
from edgecompress.models.session import ORT_ERRORS, first_line, open_session
from edgecompress.models.storage import StoredModel, read_model, write_model
from edgecompress.quantization.arithmetic.blocks import (
    dequantize_blocks,
    fitting_block,
    quantize_block_table,
)
from edgecompress.quantization.arithmetic.weights import asymmetric, dequantize, scalar, symmetric
from edgecompress.quantization.graphs.layers import Layer, names_read
from edgecompress.quantization.plan.fitness import table_form
from edgecompress.quantization.plan.planning import linear_plan, shared_tables
from edgecompress.quantization.plan.scheme import Scheme
from edgecompress.quantization.search.units import LINEAR, Unit, find_units
from edgecompress.quantization.write.draft import quantize_weight
from edgecompress.values import Feed, OnnxModel

Array = np.ndarray[Any, Any]
Part = Literal["weight", "activation", "both"]
LEAST_OPSET, LEAST_IR = 11, 4  # of DynamicQuantizeLinear; of initializers that a run replaces


class Switched:
    """A model whose layers can be rounded one by one.

    Parameters
    ----------
    model : OnnxModel
        In fp32.
    folder : Path
        Where the graph with its switches is written.
    scheme : Scheme
        Types and blocks; with ``scheme.ranges`` inputs are rounded to these, else to the range
        that each has at run time.
    threads : int

    Raises
    ------
    StageError
        When the graph's opset is too old or ONNX Runtime refuses it.
    """

    def __init__(self, model: OnnxModel, folder: Path, scheme: Scheme, threads: int = 1) -> None:
        self.scheme = scheme
        self.source = read_model(model.path)
        self.units = find_units(self.source)
        opset = max((o.version for o in self.source.proto.opset_import if not o.domain), default=0)
        if self.units and opset < LEAST_OPSET:
            raise StageError(
                f"quantization needs opset {LEAST_OPSET} or newer, and this model has {opset}: "
                "export it again with a newer opset"
            )
        self.tensors = {t.name: t for t in self.source.proto.graph.initializer}
        self.shared = shared_tables((x for unit in self.units for x in unit.layers), scheme)
        folder.mkdir(parents=True, exist_ok=True)
        written = OnnxModel(folder / "switched.onnx", model.session)
        write_model(_with_switches(self.source, self.units, scheme), written.path)
        # `source` was changed in place but for its weights, which lie on disk.
        self.session = open_session(written, threads)
        written.path.unlink()  # it is in memory now; external data, if any, goes with the folder
        self.names = [output.name for output in self.session.get_outputs()]

    def feed_of(self, units: Collection[Unit], part: Part = "both", bits: int = 8) -> Feed:
        """Give what to feed beside a sample so that `units` are rounded.

        Parameters
        ----------
        units : collection of Unit
        part : {"weight", "activation", "both"}
        bits : int
            Of tables: 8 or 4.
        """
        made: Feed = {}
        for unit in units:
            for layer in unit.layers:
                linear = layer.kind in LINEAR
                if part != "weight" and linear:
                    made[_switch(layer)] = np.array(True)
                if part == "activation":
                    continue
                for name in filter(None, layer.weights):
                    key = _weight_name(name, linear)
                    if key not in made:
                        made[key] = self._rounded(name, layer, bits)
        return made

    def run(self, sample: Feed, extra: Mapping[str, Array]) -> list[Array]:
        """Give the outputs for one sample.

        Raises
        ------
        StageError
            When the sample does not fit the model.
        """
        try:
            found: list[Array] = self.session.run(self.names, {**sample, **extra})
        except ORT_ERRORS as error:
            raise StageError(f"a sample does not fit the model ({first_line(error)})") from None
        return found

    def _rounded(self, name: str, layer: Layer, bits: int) -> Array:
        """Round a weight as the writer stores it, and give its real values back."""
        weight = self.source.array(self.tensors[name])
        block = fitting_block(weight.shape[-1], self.scheme.embedding_block)
        if bits == 4 and layer.kind == "table" and block:
            return dequantize_blocks(quantize_block_table(weight, block, search=self.scheme.search))
        if layer.kind in LINEAR:
            form = "transposed" if layer.transposed else "linear"
        elif name in self.shared:
            form = "transposed"
        else:
            form = table_form(weight)[0] if layer.kind == "table" else ""
        how = linear_plan(self.scheme, "integers", "none")
        made = quantize_weight(weight, form or "table", how)
        if form == "transposed":
            return np.ascontiguousarray(dequantize(made).T)
        return dequantize(made, axis=0 if form == "rows" else -1)


def _switch(layer: Layer) -> str:
    return f"{layer.node}_is_rounded"


def _weight_name(name: str, linear: bool) -> str:
    return f"{name}_multiplied" if linear else name


def _with_switches(model: StoredModel, units: Sequence[Unit], scheme: Scheme) -> StoredModel:
    """Add the switches.

    Weights that are multiplied get a name of their own: they may be looked up, too, and then have
    two forms.
    """
    graph = model.proto.graph
    layers = {layer.node: layer for unit in units for layer in unit.layers}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    multiplied = {w for x in layers.values() if x.kind in LINEAR for w in x.weights}
    looked_up = {w for x in layers.values() if x.kind not in LINEAR for w in x.weights if w}
    places = dict(model.places)
    for name in multiplied:
        alias = TensorProto()
        alias.CopyFrom(tensors[name])
        alias.name = _weight_name(name, linear=True)
        if name in places:
            places[alias.name] = places[name]
        tensors[alias.name] = alias
    nodes: list[NodeProto] = []
    for node in graph.node:
        layer = layers.get(node.name)
        made = NodeProto()
        made.CopyFrom(node)
        if layer is None or layer.kind in LINEAR:
            for index, name in enumerate(made.input):
                if name in multiplied:
                    made.input[index] = _weight_name(name, linear=True)
        if layer is not None and layer.kind in LINEAR:
            tensors |= _add_switch(nodes, layer, scheme)
            made.input[0] = f"{layer.node}_input"
        nodes.append(made)
    used = names_read(nodes) | {v.name for v in graph.output}
    used |= {name for name in tensors if name.endswith(("_is_rounded", "_point_of", "_scale_of"))}
    kept = [tensor for name, tensor in tensors.items() if name in used]
    replaceable = {_weight_name(w, linear=True) for w in multiplied} | looked_up
    replaceable |= {_switch(x) for x in layers.values() if x.kind in LINEAR}
    inputs = [v for v in graph.input if v.name not in tensors]
    inputs += [
        helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
        for t in kept
        if t.name in replaceable
    ]
    for field, values in (("node", nodes), ("initializer", kept), ("input", inputs)):
        graph.ClearField(field)
        getattr(graph, field).extend(values)
    graph.ClearField("value_info")
    model.proto.ir_version = max(model.proto.ir_version, LEAST_IR)
    return StoredModel(model.proto, {t.name: places[t.name] for t in kept if t.name in places})


def _add_switch(nodes: list[NodeProto], layer: Layer, scheme: Scheme) -> dict[str, TensorProto]:
    """Put an If before a layer: its input, or its input in 8 bits and back."""
    name, value, out = layer.node, layer.data, f"{layer.node}_input"
    switch = scalar(np.array(False), _switch(layer))
    made = {switch.name: switch}
    parts = [f"{name}_codes", f"{name}_scale_of", f"{name}_point_of"]
    if scheme.ranges is None:
        quantize = helper.make_node("DynamicQuantizeLinear", [value], parts)
    elif value in scheme.unfit:  # the layer stays in fp32 whatever is asked
        quantize = None
    else:
        if value not in scheme.ranges:
            raise StageError(f"no activation range was measured for {value}")
        find = symmetric if scheme.signed_activations else asymmetric
        for key, number in zip(parts[1:], find(*scheme.ranges[value]), strict=True):
            made[key] = scalar(number, key)
        quantize = helper.make_node("QuantizeLinear", [value, *parts[1:]], parts[:1])
    back = helper.make_node("DequantizeLinear", parts, [f"{name}_rounded"])
    same = helper.make_node("Identity", [value], [f"{name}_same"])
    branches = {}
    rounded = [quantize, back] if quantize is not None else [same]
    for branch, inner in (("then", rounded), ("else", [same])):
        result = helper.make_tensor_value_info(inner[-1].output[0], TensorProto.FLOAT, None)
        branches[f"{branch}_branch"] = helper.make_graph(inner, f"{name}_{branch}", [], [result])
    nodes.append(helper.make_node("If", [switch.name], [out], f"{name}_If", **branches))
    return made
