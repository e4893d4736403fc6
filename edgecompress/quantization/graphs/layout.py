"""Lay hidden states out with the sequence first, so that attention's products need no transposing.

A model's hidden states are (batch, sequence, width). Splitting width into heads and transposing
costs an attention four passes over them. As (sequence, batch, heads, size of a head) the products
of ``com.microsoft.FusedMatMul`` with ``transBatchA`` and ``transBatchB`` read queries, keys and
values where they lie, and one of the four remains. The three products that make them become one,
whose input is quantized once. Everything between attentions (linear layers,
normalizations, activations, sums) does not care which of the first two axes is which.

The input is a graph whose attentions ONNX Runtime's optimizer has fused to ``MultiHeadAttention``;
each is taken apart again into those products, so that its linear layers can become int8.
Source of the operators: ``docs/ContribOperators.md`` of ONNX Runtime.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgecompress.errors import StageError
from edgecompress.models.storage import StoredModel
from edgecompress.quantization.arithmetic.weights import array_tensor
from edgecompress.quantization.graphs.layers import attributes
from edgecompress.quantization.graphs.opset import opset_of

MICROSOFT = "com.microsoft"
ATTENTION = "MultiHeadAttention"
# What MultiHeadAttention adds to the score of a masked position unless it is told otherwise.
MASKED = -10000.0
# Each value by itself, or along the last axis: the first two axes may change places.
POINTWISE = frozenset(
    {
        *("Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Erf", "Tanh", "Relu", "Sigmoid", "Gelu"),
        *("BiasGelu", "FastGelu", "QuickGelu", "Identity", "Cast"),
    }
)
LEAST_OPSET = 13  # Unsqueeze takes its axes as an input
# Which inputs an attention has: three products, their biases, and a mask of padding or a sum of
# all that is added to scores.
MASK = [True] * 5
BIAS = [*[True] * 4, False, True]


def sequence_first(model: StoredModel) -> None:
    """Lay out the hidden states of `model` with the sequence first; changes it in place.

    Raises
    ------
    StageError
        When the graph holds no fused attention of the kind that this knows.
    """
    opset = opset_of(model)
    if opset < LEAST_OPSET:
        raise StageError(f"the sequence comes first from opset {LEAST_OPSET} on; this is {opset}")
    _Layout(model).run()


class _Layout:
    """One pass over the graph: which tensors lie sequence first, and the nodes made so far."""

    def __init__(self, model: StoredModel) -> None:
        self.model, self.graph = model, model.proto.graph
        self.ranks = {tensor.name: len(tensor.dims) for tensor in self.graph.initializer}
        self.tensors = {tensor.name: tensor for tensor in self.graph.initializer}
        for node in self.graph.node:
            value = attributes(node).get("value") if node.op_type == "Constant" else None
            if value is not None:
                self.ranks[node.output[0]] = len(value.dims)
        self.outputs = {value.name for value in self.graph.output}
        self.readers = Counter(name for node in self.graph.node for name in node.input)
        self.nodes: list[NodeProto] = []
        self.turned: dict[str, str] = {}  # a tensor's name -> its form with the sequence first
        self.masks: dict[str, str] = {}

    def run(self) -> None:
        attentions = [node for node in self.graph.node if node.op_type == ATTENTION]
        if not attentions:
            raise StageError("no attention was found, so no layout of it can change")
        for node in attentions:
            self._check(node)
        makers = {name: node for node in self.graph.node for name in node.output}
        linear = makers.get(attentions[0].input[0])
        if linear is None or not self._linear(linear):
            raise StageError("the first attention's queries come from no linear layer")
        start = linear.input[0]
        if start not in makers:
            raise StageError("the first attention reads the model's input itself")
        for node in list(self.graph.node):
            self._place(node)
            if start in node.output:
                self._turn(start, f"{start}_sequence_first")
        self.graph.ClearField("node")
        self.graph.node.extend(self.nodes)
        if all(o.domain != MICROSOFT for o in self.model.proto.opset_import):
            self.model.proto.opset_import.append(helper.make_opsetid(MICROSOFT, 1))

    def _check(self, node: NodeProto) -> None:
        given = [bool(name) for name in node.input]
        known = {"num_heads", "mask_filter_value", "scale"}
        if (
            given not in (MASK, BIAS)
            or {*attributes(node)} - known
            or len(node.output) != 1
            or node.input[3] not in self.tensors
        ):
            raise StageError(f"{node.name or ATTENTION} has inputs that this layout does not know")

    def _linear(self, node: NodeProto) -> bool:
        return node.op_type == "MatMul" and self.ranks.get(node.input[1]) == 2

    def _turn(self, name: str, made: str) -> None:
        self._add("Transpose", [name], made, perm=[1, 0, 2])
        self.turned[name] = made

    def _place(self, node: NodeProto) -> None:
        """Add `node`, in the new layout where its inputs have it."""
        inside = [name for name in node.input if name in self.turned]
        if not inside:
            self.nodes.append(node)
        elif node.op_type == ATTENTION:
            if not {*node.input[:3]} <= {*inside}:
                raise StageError(f"{node.name}: its queries, keys and values have two layouts")
            self._attention(node)
        elif self._keeps(node, inside):
            moved = NodeProto()
            moved.CopyFrom(node)
            for index, name in enumerate(node.input):
                moved.input[index] = self.turned.get(name, name)
            out = node.output[0]
            moved.output[0] = self.turned[out] = f"{out}_sequence_first"
            self.nodes.append(moved)
            self._back(out)
        else:
            for name in inside:
                self._back(name, always=True)
            self.nodes.append(node)

    def _back(self, name: str, *, always: bool = False) -> None:
        """Give a tensor in its first layout under its own name, for who needs it."""
        done = any(name in node.output for node in self.nodes)
        if not done and (always or name in self.outputs):
            self._add("Transpose", [self.turned[name]], name, perm=[1, 0, 2])

    def _keeps(self, node: NodeProto, inside: list[str]) -> bool:
        """Whether `node` does the same to both layouts, and keeps the rank."""
        if len([name for name in node.output if name]) != 1:
            return False
        if self._linear(node):
            return node.input[0] in inside
        others = [name for name in node.input if name and name not in inside]
        if node.op_type in {"LayerNormalization", "SimplifiedLayerNormalization"}:
            return attributes(node).get("axis", -1) == -1 and node.input[0] in inside
        if node.op_type == "SkipLayerNormalization":
            return {*node.input[:2]} <= {*inside}
        return node.op_type in POINTWISE and all(self.ranks.get(n, 9) <= 1 for n in others)

    def _attention(self, node: NodeProto) -> None:
        given = attributes(node)
        heads, out = int(given["num_heads"]), node.output[0]
        bias = self.model.array(self.tensors[node.input[3]])
        width = len(bias) // 3
        scale = float(given.get("scale") or 0) or 1 / math.sqrt(width // heads)
        size = width // heads
        join = self._constant(f"{out}_width", np.array([0, 0, width]))
        merged = self._merged(node)
        if merged is not None:
            parts = self._parts_of(merged, bias, heads, size, out)
        else:
            parts = []
            split = self._constant(f"{out}_heads", np.array([0, 0, heads, size]))
            for index, name in enumerate(node.input[:3]):
                stem = f"{out}_{'qkv'[index]}"
                tensor = array_tensor(bias[index * width :][:width], f"{stem}_bias")
                self.graph.initializer.append(tensor)
                self._add("Add", [self.turned[name], tensor.name], f"{stem}_biased")
                parts.append(self._add("Reshape", [f"{stem}_biased", split], f"{stem}_split"))
        mask = node.input[-1]
        if node.input[4]:
            mask = self._mask(mask, float(given.get("mask_filter_value", MASKED)))
        turns = {"transBatchA": 1, "transBatchB": 1, "transB": 1, "alpha": scale}
        self._add("FusedMatMul", parts[:2], f"{out}_scores", domain=MICROSOFT, **turns)
        self._add("Add", [f"{out}_scores", mask], f"{out}_masked")
        self._add("Softmax", [f"{out}_masked"], f"{out}_shares", axis=-1)
        inputs = [f"{out}_shares", parts[2]]
        self._add("FusedMatMul", inputs, f"{out}_mixed", domain=MICROSOFT, transBatchB=1)
        self._add("Transpose", [f"{out}_mixed"], f"{out}_by_position", perm=[2, 0, 1, 3])
        made = f"{out}_sequence_first"
        self.turned[out] = self._add("Reshape", [f"{out}_by_position", join], made)

    def _merged(self, node: NodeProto) -> list[NodeProto] | None:
        """Give the three products of one input that make queries, keys and values, if they are."""
        makers = {made.output[0]: made for made in self.nodes if made.output}
        found = [makers[self.turned[name]] for name in node.input[:3]]
        weights = [self.tensors.get(each.input[1]) for each in found if self._linear(each)]
        alone = all(self.readers[name] == 1 and name not in self.outputs for name in node.input[:3])
        if not alone or len(weights) != len(found) or None in weights:
            return None
        shapes = {tuple(tensor.dims) for tensor in weights if tensor is not None}
        same = len({each.input[0] for each in found}) == len(shapes) == 1
        return found if same else None

    def _parts_of(
        self, products: list[NodeProto], bias: Any, heads: int, size: int, out: str
    ) -> list[str]:
        """Make one product of three: its input is then quantized once, and read once."""
        names = [product.input[1] for product in products]
        arrays = [self.model.array(self.tensors[name]) for name in names]
        weight = array_tensor(np.concatenate(arrays, axis=1), f"{out}_qkv_weight")
        vector = array_tensor(bias, f"{out}_qkv_bias")
        for name in names:
            if self.readers[name] == 1:
                self.graph.initializer.remove(self.tensors[name])
        self.graph.initializer.extend([weight, vector])
        self.ranks[weight.name] = len(weight.dims)
        self.nodes = [node for node in self.nodes if all(node is not each for each in products)]
        shape = self._constant(f"{out}_qkv_heads", np.array([0, 0, 3 * heads, size]))
        sizes = self._constant(f"{out}_qkv_sizes", np.array([heads] * 3))
        self._add("MatMul", [products[0].input[0], weight.name], f"{out}_qkv")
        self._add("Add", [f"{out}_qkv", vector.name], f"{out}_qkv_biased")
        self._add("Reshape", [f"{out}_qkv_biased", shape], f"{out}_qkv_by_head")
        parts = [f"{out}_{each}_split" for each in "qkv"]
        self.nodes.append(
            helper.make_node("Split", [f"{out}_qkv_by_head", sizes], parts, f"{out}_Split", axis=2)
        )
        return parts

    def _mask(self, name: str, masked: float) -> str:
        """Make what is added to scores of (batch, heads, queries, keys), once per mask."""
        if name not in self.masks:
            made = f"{name}_bias"
            one = self._constant(f"{name}_one", np.float32(1))
            lowest = self._constant(f"{name}_lowest", np.float32(-masked))
            axes = self._constant(f"{name}_axes", np.array([1, 2]))
            self._add("Cast", [name], f"{name}_float", to=TensorProto.FLOAT)
            self._add("Sub", [f"{name}_float", one], f"{name}_padding")
            self._add("Mul", [f"{name}_padding", lowest], f"{name}_flat")
            self._add("Unsqueeze", [f"{name}_flat", axes], made)
            self.masks[name] = made
        return self.masks[name]

    def _constant(self, name: str, value: Any) -> str:
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _add(self, op: str, inputs: list[str], out: str, domain: str = "", **given: Any) -> str:
        node = helper.make_node(op, inputs, [out], f"{out}_{op}", domain=domain, **given)
        self.nodes.append(node)
        return out
