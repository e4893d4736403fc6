"""Which layers 8 bits cannot hold: they stay in fp32, each with its reason.

A number that is not finite has no integer; a sum of too many products leaves the 32 bits in which
kernels add them; and a table whose rows or columns differ too much is noise behind one scale. What
is asked here needs no run of the model: each weight is read once more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from edgecompress.models.storage import StoredModel
from edgecompress.quantization.arithmetic.blocks import dequantize_blocks, quantize_block_table
from edgecompress.quantization.arithmetic.weights import (
    asymmetric,
    chunks,
    dequantize,
    quantize_rows,
)
from edgecompress.quantization.graphs.layers import Layer, readers_of
from edgecompress.quantization.graphs.regions import least_scales
from edgecompress.quantization.observe.ranges import MASKING
from edgecompress.quantization.plan.scheme import Scheme

Array = np.ndarray[Any, Any]
TableForm = Literal["table", "rows", ""]

MOST_SUM = 2**31
"""What the kernels' 32-bit sums hold on each side of zero."""
MOST_INPUT, MOST_WEIGHT = 255, 128
"""Largest distance of a uint8 activation, and of a weight's integer, from its zero point."""
MOST_UNSIGNED_WEIGHT = 255
NOT_FINITE = "its weight holds numbers that are not finite"
TABLE_NOT_FINITE = "its table holds numbers that are not finite"
BIAS_NOT_FINITE = "its bias holds numbers that are not finite"
UNLIKE_ROWS = "8 bits would lose most of its rows or columns, whose sizes differ too much"
TOO_LONG = "a sum of its {} products does not fit into 32 bits"
WIDE_BIAS = "its bias does not fit into 32 bits beside one scale for all channels"
LOST = 0.5
"""Of a row's or column's root mean square: a rounding error beyond this leaves nothing of it."""
MOST_LOST = 0.25
"""Share of a table's rows, or columns, that may be lost (words that no text has seen are as small
as that in good models). See docs/quantization.md for what was measured."""
EXACT_READERS = frozenset({"Cos", "Sin", "Tan", "Exp", "Log", "Reciprocal"})
"""Turn an error that is small beside the largest value into one that is as large as the answer."""
PASSED_ON = frozenset(
    {
        *("Unsqueeze", "Squeeze", "Reshape", "Flatten", "Transpose", "Identity", "Cast", "Expand"),
        *("Concat", "Slice", "Split", "Neg", "Tile"),
    }
)
SCALED = frozenset({"Mul", "Div", "Add", "Sub"})
"""Pass a table's values on where the other side is a constant."""
WHOLE_NUMBERS = frozenset({2, 3, 4, 5, 6, 7, 12, 13})  # TensorProto's integer types


def lost_share(table: Array, form: TableForm) -> float:
    """Give the larger of the shares of rows and of columns that rounding to 8 bits loses.

    Parameters
    ----------
    table : ndarray, float32, shape (rows, width)
        Finite.
    form : {"table", "rows"}
        One uint8 scale for all, or an int8 scale for each row.

    Returns
    -------
    float
        1 where a value would come back as infinite.
    """
    scale, zero = asymmetric(table.min(), table.max())

    def back(part: Array) -> Array:
        if form == "rows":
            return dequantize(quantize_rows(part), axis=0)
        codes = np.clip((part / scale).round() + zero, 0, 255)
        return np.asarray((codes - zero.astype(np.float32)) * scale)

    return _lost(table, back)


def lost_in_blocks(table: Array, block: int) -> float:
    """As `lost_share`, of a table of 4 bits in blocks."""
    return _lost(
        table, lambda part: dequantize_blocks(quantize_block_table(part, block, search=False))
    )


def _lost(table: Array, back: Any) -> float:
    signal, noise = np.zeros(table.shape[1]), np.zeros(table.shape[1])
    lost = used = small = gone = 0
    masked = False
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in chunks(table):
            part = table[rows]
            gap = np.square(back(part).astype(np.float64) - part)
            square = np.square(part.astype(np.float64))
            if not np.isfinite(gap).all():
                return 1.0
            # A mask's values say nothing of how large the others are.
            beside = (square > 0) & (square < MASKING**2)
            small += int(np.count_nonzero(beside))
            gone += int(np.count_nonzero(beside & (gap > LOST**2 * square)))
            masked |= bool((square >= MASKING**2).any())
            signal += square.sum(axis=0)
            noise += gap.sum(axis=0)
            sizes = square.sum(axis=1)
            used += int(np.count_nonzero(sizes))
            lost += int(np.count_nonzero(gap.sum(axis=1) > LOST**2 * sizes))
    columns = int(np.count_nonzero(noise > LOST**2 * signal))
    alive = int(np.count_nonzero(signal))
    values = gone / max(small, 1) if masked else 0.0
    return max(columns / max(alive, 1), lost / max(used, 1), values)


def table_form(
    table: Array, forms: Sequence[TableForm] = ("table", "rows")
) -> tuple[TableForm, str]:
    """Choose how a table is stored in 8 bits: the first of `forms` that does not lose too much.

    Returns
    -------
    form : {"table", "rows", ""}
        Empty: it stays in fp32.
    reason : str
        Why it stays.
    """
    if not np.isfinite(table.min()) or not np.isfinite(table.max()):  # NaN if one is
        return "", TABLE_NOT_FINITE
    for form in forms:
        if lost_share(table, form) <= MOST_LOST:
            return form, ""
    return "", UNLIKE_ROWS


def read_exactly(name: str, consumers: Mapping[str, Sequence[Any]], constants: set[str]) -> str:
    """Say which operator reads a table's rows and needs more than 8 bits; empty: none does.

    Parameters
    ----------
    name : str
        What the look-up gives.
    consumers : mapping of str to sequence of NodeProto
    constants : set of str
    """
    pending, seen = [name], {name}
    while pending:
        for node in consumers.get(pending.pop(), ()):
            if node.op_type in EXACT_READERS:
                return str(node.op_type)
            to = next((a.i for a in node.attribute if a.name == "to"), 0)
            if node.op_type == "Cast" and to in WHOLE_NUMBERS:
                return "Cast to whole numbers"
            scaled = node.op_type in SCALED and any(n in constants for n in node.input)
            if node.op_type in PASSED_ON or scaled:
                fresh = [one for one in node.output if one and one not in seen]
                seen.update(fresh)
                pending += fresh
    return ""


class Fitness:
    """Says of the layers of one graph why 8 bits cannot hold them.

    Parameters
    ----------
    model : StoredModel
    scheme : Scheme
    """

    def __init__(self, model: StoredModel, scheme: Scheme) -> None:
        self.model, self.scheme = model, scheme
        graph = model.proto.graph
        self.sources = {tensor.name: tensor for tensor in graph.initializer}
        self.nodes = {node.name: node for node in graph.node}
        self.consumers = readers_of(graph.node)
        constants = (n.output[0] for n in graph.node if n.op_type == "Constant")
        self.constants = {*self.sources, *constants}
        self.forms: dict[str, TableForm] = {}
        self._finite: dict[str, bool] = {}
        self._tables: dict[tuple[str, bool], tuple[TableForm, str]] = {}

    def reasons(self, layers: Iterable[Layer]) -> dict[str, str]:
        """Give by node why layers, all of which would be quantized, must stay in fp32.

        `forms` then tells how the tables among the others are stored.
        """
        found = list(layers)
        reasons = {layer.node: self._reason(layer) for layer in found}
        # One table, one form: a look-up that must stay in fp32 holds the others back.
        tables = [layer for layer in found if layer.kind == "table"]
        held = {x.weights[0]: reasons[x.node] for x in tables if reasons[x.node]}
        for layer in tables:
            reasons[layer.node] = reasons[layer.node] or held.get(layer.weights[0], "")
        self.forms = {name: form for (name, by_rows), (form, _) in self._tables.items() if by_rows}
        return {node: reason for node, reason in reasons.items() if reason}

    def _reason(self, layer: Layer) -> str:
        node = self.nodes[layer.node]
        if layer.kind == "table":
            reader = read_exactly(node.output[0], self.consumers, self.constants)
            return f"{reader} reads its values" if reader else self._table(layer.weights[0])[1]
        if layer.kind == "embed_layer_norm":
            rows = [self._table(name, by_rows=False)[1] for name in layer.weights[:3] if name]
            ends = all(self._is_finite(name) for name in layer.weights[3:] if name)
            return next(filter(None, rows), "") or ("" if ends else TABLE_NOT_FINITE)
        if not all(self._is_finite(name) for name in layer.weights):
            return NOT_FINITE
        if self.scheme.linears == "blocks":
            return ""
        return self._sum(layer) or (self._bias(layer, node) if layer.kind == "conv" else "")

    def _sum(self, layer: Layer) -> str:
        dims = self.sources[layer.weights[0]].dims
        conv = layer.kind == "conv"
        if layer.kind == "lstm":
            products = max(self.sources[name].dims[2] for name in layer.weights)
        else:
            products = math.prod(dims[1:]) if conv else dims[1 if layer.transposed else 0]
        unsigned = self.scheme.unsigned_weights and layer.kind not in {"conv", "lstm"}
        largest = MOST_INPUT * (MOST_UNSIGNED_WEIGHT if unsigned else MOST_WEIGHT)
        most = MOST_SUM // (2 if conv else 1)  # the other half is the bias's
        return TOO_LONG.format(f"{products:,}") if products * largest > most else ""

    def _bias(self, layer: Layer, node: Any) -> str:
        name = node.input[2] if len(node.input) > 2 else ""
        if name and not self._is_finite(name):
            return BIAS_NOT_FINITE
        ranges = self.scheme.ranges or {}
        if not name or self.scheme.per_channel or layer.data not in ranges:
            return ""
        bias = self.model.array(self.sources[name])
        least = least_scales(bias, asymmetric(*ranges[layer.data])[0]).max(initial=0)
        most = np.abs(self.model.array(self.sources[layer.weights[0]])).max(initial=0)
        return WIDE_BIAS if least * 64 > most else ""

    def _is_finite(self, name: str) -> bool:
        if name not in self._finite:
            weight = self.model.array(self.sources[name])
            ends = (weight.min(), weight.max()) if weight.size else (0.0,)
            self._finite[name] = bool(np.isfinite(ends).all())
        return self._finite[name]

    def _table(self, name: str, *, by_rows: bool = True) -> tuple[TableForm, str]:
        if (name, by_rows) not in self._tables:
            table = self.model.array(self.sources[name])
            forms: tuple[TableForm, ...] = ("rows",) if self.scheme.rows else ("table", "rows")
            self._tables[name, by_rows] = table_form(
                np.atleast_2d(table), forms if by_rows else ("table",)
            )
        return self._tables[name, by_rows]
