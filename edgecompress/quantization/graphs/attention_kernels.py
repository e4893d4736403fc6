"""Attention with a bias of positions, a window or rotary positions, written as its kernels.

ONNX Runtime's optimizer knows none of these. What `attention_parts` reads of them becomes
``com.microsoft.MultiHeadAttention``, with what is added to its scores as ``attention_bias``, behind
``com.microsoft.RotaryEmbedding`` where queries and keys are rotated.
Source: ``docs/ContribOperators.md`` of ONNX Runtime.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from onnx import NodeProto, helper

from edgecompress.models.storage import StoredModel
from edgecompress.quantization.graphs.attention_parts import (
    CLOSE,
    Bias,
    Heads,
    fits,
    read_heads,
    read_scores,
)
from edgecompress.quantization.graphs.attention_patterns import (
    LOWEST,
    added_mask,
    find_attention,
    nodes_behind,
)
from edgecompress.quantization.graphs.trials import Trials
from edgecompress.quantization.graphs.wiring import Wiring, node, put_constant, replace_nodes

MICROSOFT = "com.microsoft"


def write_kernels(model: StoredModel) -> bool:
    """Write the attentions that ONNX Runtime's optimizer does not know as kernels.

    Parameters
    ----------
    model : StoredModel
        Changed in place, and only where there are such.

    Returns
    -------
    bool
        Whether anything was rewritten.
    """
    return _Kernels(model).run()


class _Kernels:
    def __init__(self, model: StoredModel) -> None:
        self.model = model
        self.wiring, self.trials = Wiring(model), Trials(model)
        self.done: set[str] = set()

    def run(self) -> bool:
        nodes = list(self.model.proto.graph.node)
        places = {name: index for index, each in enumerate(nodes) for name in each.output if name}
        made: dict[int, list[NodeProto]] = {}
        gone: set[int] = set()
        for each in nodes:
            if each.op_type != "Softmax" or find_attention(each, self.wiring, self.trials):
                continue
            behind = nodes_behind(each, self.wiring, loose=True)
            written = self._kernel(behind) if behind else None
            if behind and written:
                gone |= {places[one.output[0]] for one in behind}
                made[places[behind[-3].output[0]]] = written
        if gone:
            replace_nodes(self.model, made, gone)
            domains = self.model.proto.opset_import
            if all(each.domain != MICROSOFT for each in domains):
                domains.append(helper.make_opsetid(MICROSOFT, 1))
        return bool(gone)

    def _kernel(self, behind: Sequence[NodeProto]) -> list[NodeProto] | None:
        softmax, product, end = behind[0], behind[-3], behind[-1]
        found = read_scores(softmax.input[0], self.wiring, self.trials)
        if found is None:
            return None
        scores, scale, biases = found
        queries, keys, values = parts = (
            read_heads(scores.input[0], self.wiring, self.trials),
            read_heads(scores.input[1], self.wiring, self.trials, turned=True),
            read_heads(product.input[1], self.wiring, self.trials),
        )
        if not queries or not keys or not values or values.waves or values.scale != 1:
            return None
        if len({(part.heads, part.size) for part in parts if part}) != 1:
            return None
        if biases and not fits(biases, queries.heads, self.trials):
            return None
        masked = len(biases) == 1 and biases[0].masked is None
        if not queries.waves and (
            not biases or (masked and added_mask(biases[0].name, self.trials))
        ):
            return None  # the optimizer knows better kernels for it
        nodes: list[NodeProto] = []
        inputs = self._products(parts) or [
            *(self._columns(part, nodes) for part in (queries, keys, values)),
            "",
        ]
        inputs += ["", self._sum(biases, nodes)] if biases else []
        kernel = node("MultiHeadAttention", inputs, end.output[0], domain=MICROSOFT)
        scale *= queries.scale * keys.scale
        usual = 1 / math.sqrt(queries.size)
        given = {
            "num_heads": queries.heads,
            "scale": usual if math.isclose(scale, usual, rel_tol=CLOSE) else scale,
        }
        kernel.attribute.extend(helper.make_attribute(*each) for each in given.items())
        kernel.name = f"{softmax.name or softmax.output[0]}/MultiHeadAttention"
        return [*nodes, kernel]

    def _products(self, parts: Sequence[Heads | None]) -> list[str] | None:
        """Give three layers' products and their biases as one, which the kernel adds itself."""
        products, vectors = [], []
        for part in parts:
            layer = self.wiring.made_by(part.source, "Add") if part else None
            product = self.wiring.product(part.source) if part and layer else None
            if part is None or layer is None or product is None or part.waves:
                return None
            if part.width != part.heads * part.size:
                return None
            name = next(each for each in layer.input if each != product.output[0])
            tensor = self.wiring.tensors.get(name)
            if tensor is None or [*tensor.dims] != [part.width]:
                return None
            products.append(product.output[0])
            vectors.append(self.model.array(tensor))
        bias = put_constant(self.model, f"{products[0]}_biases", np.concatenate(vectors))
        return [*products, bias]

    def _columns(self, part: Heads, nodes: list[NodeProto]) -> str:
        """Give queries, keys or values as the kernel reads them, rotated where they are."""
        name, taken = part.source, part.heads * part.size
        if part.width != taken:
            names = [f"{part.source}_part_{n}" for n in range(part.width // taken)]
            if self._first(part.source):
                sizes = put_constant(
                    self.model, f"parts_{len(names)}x{taken}", np.array([taken] * len(names))
                )
                stem = f"{part.source}_parts"
                nodes.append(helper.make_node("Split", [name, sizes], names, stem, axis=-1))
            name = names[part.start // taken]
        if part.waves is None:
            return name
        first = put_constant(self.model, "first_position", np.array([0]))
        waves = [self._half(wave, part.size, nodes) for wave in part.waves]
        made = f"{name}_rotated"
        if self._first(made):
            inputs = [name, first, *waves]
            nodes.append(node("RotaryEmbedding", inputs, made, domain=MICROSOFT))
        return made

    def _half(self, wave: str, size: int, nodes: list[NodeProto]) -> str:
        """Give the waves of a position once: the kernel reads (length, size / 2)."""
        made, half = f"{wave}_half", size // 2
        if self._first(made):
            zero, one, end, last, flat = (
                put_constant(self.model, f"{name}_as_list", np.array(value))
                for name, value in (
                    ("zero", [0]),
                    ("one", [1]),
                    (f"half_{half}", [half]),
                    ("last", [-1]),
                    (f"rows_{half}", [-1, half]),
                )
            )
            nodes.append(node("Slice", [wave, zero, end, last, one], f"{made}_twice"))
            nodes.append(node("Reshape", [f"{made}_twice", flat], made))
        return made

    def _sum(self, biases: Sequence[Bias], nodes: list[NodeProto]) -> str:
        """Give the sum of what is added to scores, made once for all attentions alike."""
        total = ""
        for bias in biases[::-1]:
            name = bias.name
            if bias.masked is not None:
                name = f"{bias.name}_{'masked' if bias.where else 'seen'}_{bias.masked:g}"
                if self._first(name):
                    masked = put_constant(self.model, f"{name}_is", np.float32(bias.masked))
                    none = put_constant(self.model, f"{name}_not", np.float32(0))
                    choice = [masked, none] if bias.where else [none, masked]
                    nodes.append(node("Where", [bias.name, *choice], name))
            elif self._endless(bias.name):  # of a row without any position it would make NaN
                name = f"{bias.name}_finite"
                if self._first(name):
                    lowest = put_constant(self.model, "lowest_score", np.float32(LOWEST))
                    nodes.append(node("Max", [bias.name, lowest], name))
            both = f"{total}_and_{name}"
            if total and self._first(both):
                nodes.append(node("Add", [total, name], both))
            total = both if total else name
        return total

    def _endless(self, bias: str) -> bool:
        return any(np.isneginf(array).any() for _, array in self.trials.results(bias) or ())

    def _first(self, name: str) -> bool:
        """Whether a node of this name has not been made yet."""
        first = name not in self.done
        self.done.add(name)
        return first
