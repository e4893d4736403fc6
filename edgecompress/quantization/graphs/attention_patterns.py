"""Attention in a graph, recognised by what surrounds its Softmax, and written anew.

Exporters differ in how sizes of heads are told, where scores are scaled, and how a mask is made
from a model's input; `trials` says what a mask is, however it is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, TensorProto

from edgecompress.models.storage import StoredModel
from edgecompress.quantization.graphs.layers import attributes
from edgecompress.quantization.graphs.trials import Trials
from edgecompress.quantization.graphs.wiring import Wiring, node, put_constant

HEADS_FIRST = (0, 2, 1, 3)  # (batch, length, heads, size) ↔ (batch, heads, length, size)
KEYS = (0, 2, 3, 1)  # (batch, length, heads, size) → (batch, heads, size, length)
MASKED = -1e4
"""What is added to a score at least, so that the share of its position is zero."""
LOWEST = float(np.finfo(np.float32).min)
# How the optimizer expects a mask to be made, from the sum back to the model's input.
KNOWN_MASK = ("Mul", "Sub", "Cast", "Unsqueeze", "Unsqueeze")


@dataclass(frozen=True, slots=True)
class Mask:
    """A model's input with ones where positions are seen, and what others' scores get."""

    name: str
    masked: float


@dataclass(frozen=True, slots=True)
class Attention:
    """One attention as a graph computes it.

    Attributes
    ----------
    inputs : tuple of str
        Queries, keys and values, each (batch, length, heads × size).
    heads, size : int
    mask : Mask or None
    product : NodeProto
        The MatMul of shares and values.
    nodes : tuple of NodeProto
        What a rewritten form replaces: from the Softmax to the last Reshape.
    known : bool
        ONNX Runtime's optimizer recognises it as it is.
    """

    inputs: tuple[str, str, str]
    heads: int
    size: int
    mask: Mask | None
    product: NodeProto
    nodes: tuple[NodeProto, ...]
    known: bool


def find_attention(softmax: NodeProto, wiring: Wiring, trials: Trials) -> Attention | None:
    """Recognise the attention that a Softmax belongs to."""
    nodes = nodes_behind(softmax, wiring)
    if nodes is None:
        return None
    product = nodes[-3]
    scores = _Scores(softmax.input[0], wiring, trials)
    if scores.product is None:
        return None
    queries, query_scale = scaled(scores.product.input[0], wiring)
    keys, key_scale = scaled(scores.product.input[1], wiring)
    turned = _untransposed(keys, wiring)
    parts = [_heads(each, wiring) for each in (queries, turned, product.input[1])]
    if None in parts or len({part[1:] for part in parts if part}) != 1:
        return None
    (q, heads, size), (k, _, _), (v, _, _) = (part for part in parts if part)
    scale = scores.scale * query_scale * key_scale
    if not math.isclose(scale * math.sqrt(size), 1, rel_tol=1e-5):
        return None
    known = scores.known and len(nodes) == 4 and query_scale == key_scale == 1
    known = known and all(_told(each, wiring) for each in (queries, turned, product.input[1]))
    return Attention((q, k, v), heads, size, scores.mask, product, nodes, known)


def nodes_behind(
    softmax: NodeProto, wiring: Wiring, *, loose: bool = False
) -> tuple[NodeProto, ...] | None:
    """Give a Softmax and what follows: product with the values, Transpose, Reshape to a width.

    With `loose` Casts to what it is already may come first, and the Reshape may be told the shape
    of what it reads.
    """
    shares, nodes = softmax.output[0], [softmax]
    while loose and (cast := wiring.only_reader(shares, "Cast")):
        if attributes(cast)["to"] != TensorProto.FLOAT:
            return None
        nodes, shares = [*nodes, cast], cast.output[0]
    if len(wiring.readers.get(shares, [])) == 2:  # rows without any position: NaN → 0
        test, choice = sorted(wiring.readers[shares], key=lambda each: each.op_type)
        if (test.op_type, choice.op_type) != ("IsNaN", "Where"):
            return None
        nodes, shares = [*nodes, choice], choice.output[0]
    product = wiring.only_reader(shares, "MatMul")
    back = product and wiring.only_reader(product.output[0], "Transpose")
    if not product or not back or product.input[0] != shares:
        return None
    end = wiring.only_reader(back.output[0], "Reshape")
    if end is None and loose:
        ends = [one for one in wiring.readers.get(back.output[0], []) if one.op_type == "Reshape"]
        end = ends[0] if len(ends) == 1 and wiring.leads_only_to(back, ends[0]) else None
    if end is None or back.output[0] != end.input[0]:
        return None
    if tuple(attributes(back).get("perm", ())) != HEADS_FIRST:
        return None
    return (*nodes, product, back, end)


class _Scores:
    """What a Softmax reads, followed back to the product of queries and keys."""

    def __init__(self, name: str, wiring: Wiring, trials: Trials) -> None:
        self.wiring, self.trials = wiring, trials
        self.scale, self.known = 1.0, False
        self.mask: Mask | None = None
        self.product: NodeProto | None = None
        operators = []
        while each := wiring.made_by(name, "Add", "Where", "Mul", "Div", "MatMul"):
            operators.append(each.op_type)
            if each.op_type == "MatMul":
                self.product = each
                break
            before = self._before(each)
            if before is None:
                return
            name = before
        if self.mask is None:
            self.known = operators == ["Div", "MatMul"]
        elif operators not in (["Add", "Div", "MatMul"], ["Add", "Mul", "MatMul"]):
            self.known = False

    def _before(self, each: NodeProto) -> str | None:
        """Take one step back; None where it is a step that attention does not make."""
        if each.op_type in {"Mul", "Div"}:
            before, factor = scaled(each.output[0], self.wiring, steps=1)
            self.scale *= factor
            return before if before != each.output[0] else None
        if self.mask is not None:
            return None
        if each.op_type == "Add":
            for given, before in (tuple(each.input), tuple(each.input)[::-1]):
                if mask := added_mask(given, self.trials):
                    self.mask, self.known = mask, _is_known_mask(given, self.wiring)
                    return before
            return None
        for scores, other, seen in ((1, 2, True), (2, 1, False)):
            masked = self.wiring.scalar(each.input[other])
            if masked is not None and masked <= MASKED:
                name = _seen(each.input[0], self.trials, ones_are=seen)
                self.mask = Mask(name, max(masked, LOWEST)) if name else None
                return each.input[scores] if name else None
        return None


def added_mask(name: str, trials: Trials) -> Mask | None:
    """Tell what is added to scores, if it is one of the model's inputs as a mask of positions."""
    found = trials.results(name)
    if not found:
        return None
    for given in found[0][0]:
        lowest = []
        for feed, bias in found:
            if "mask" not in given or bias.ndim != 4 or bias.dtype != np.float32:
                break
            seen = np.broadcast_to(feed[given][:, None, None, :] != 0, bias.shape)
            if np.any(bias[seen]) or np.any(bias[~seen] > MASKED):
                break
            lowest.append(float(bias[~seen].max()))
        else:
            return Mask(given, max(*lowest, LOWEST))
    return None


def _seen(name: str, trials: Trials, *, ones_are: bool) -> str | None:
    """Give the input whose ones (or zeros) are where a condition on scores holds."""
    found = trials.results(name) or ()
    for given in found[0][0] if found else ():
        if "mask" in given and all(
            holds.ndim == 4
            and feed[given].shape[-1] == holds.shape[-1]
            and np.array_equal(
                holds, np.broadcast_to(feed[given][:, None, None, :] == ones_are, holds.shape)
            )
            for feed, holds in found
        ):
            return given
    return None


def _is_known_mask(name: str, wiring: Wiring) -> bool:
    for operator in KNOWN_MASK:
        each = wiring.made_by(name, operator)
        if each is None:
            return False
        name = each.input[1 if operator == "Sub" else 0]
        if operator == "Mul" and wiring.constant(name) is not None:
            name = each.input[1]
    return True


def scaled(name: str, wiring: Wiring, steps: int = 9) -> tuple[str, float]:
    """Follow products with and divisions by one number; give what is scaled, and the factor."""
    factor = 1.0
    for _ in range(steps):
        each = wiring.made_by(name, "Mul", "Div")
        if each is None:
            break
        right, left = wiring.scalar(each.input[1]), wiring.scalar(each.input[0])
        if right:
            name, factor = each.input[0], factor * (right if each.op_type == "Mul" else 1 / right)
        elif left and each.op_type == "Mul":
            name, factor = each.input[1], factor * left
        else:
            break
    return name, factor


def _untransposed(name: str, wiring: Wiring) -> str:
    """Give the keys as (batch, heads, length, size), of (batch, heads, size, length)."""
    reshape = wiring.made_by(name, "Reshape")  # PyTorch's own fused attention: by three axes
    inner = wiring.turned(reshape.input[0], 0, 2, 1) if reshape else wiring.turned(name, 0, 1, 3, 2)
    if inner is None:
        return name
    flat = wiring.made_by(inner, "Reshape") if reshape else None
    return flat.input[0] if flat else inner


def _heads(name: str, wiring: Wiring) -> tuple[str, int, int] | None:
    """Give the linear layer's result that was split into heads, their number and size."""
    split = _split(name, wiring)
    sizes = wiring.shape(split.input[1]) if split else None
    width = wiring.columns(split.input[0]) if split else None
    if not split or not sizes or len(sizes) != 4 or not width:
        return None
    heads, size = sizes[2:]
    size = size or (width // heads if heads else None)
    if not size or width % size or heads not in {None, width // size}:
        return None
    return split.input[0], width // size, size


def _split(name: str, wiring: Wiring) -> NodeProto | None:
    """Give the Reshape behind a Transpose to heads first, of keys also in one step with theirs."""
    inner = wiring.turned(name, *HEADS_FIRST) or wiring.turned(name, *KEYS)
    return wiring.made_by(inner, "Reshape") if inner else None


def _told(name: str, wiring: Wiring) -> bool:
    """Whether the number of heads and their size stand in the graph."""
    split = _split(name, wiring)
    sizes = wiring.shape(split.input[1]) if split else None
    return bool(sizes and sizes[2] and sizes[3])


def mask_nodes(model: StoredModel, mask: Mask) -> list[NodeProto]:
    """Make what is added to scores of (batch, heads, queries, keys)."""
    stem = f"{mask.name}_as"
    one = put_constant(model, f"{stem}_one", np.float32(1))
    masked = put_constant(model, f"{stem}_masked", np.float32(mask.masked))
    axes = [put_constant(model, f"{stem}_axis_{axis}", np.array([axis])) for axis in (1, 2)]
    return [
        node("Unsqueeze", [mask.name, axes[0]], f"{stem}_rows"),
        node("Unsqueeze", [f"{stem}_rows", axes[1]], f"{stem}_heads"),
        node("Cast", [f"{stem}_heads"], f"{stem}_number", to=TensorProto.FLOAT),
        node("Sub", [one, f"{stem}_number"], f"{stem}_padding"),
        node("Mul", [f"{stem}_padding", masked], f"{stem}_sum"),
    ]


def attention_nodes(model: StoredModel, found: Attention) -> list[NodeProto]:
    """Make an attention in the form that the optimizer knows; its result keeps its name."""
    softmax, end = found.nodes[0], found.nodes[-1]
    stem = softmax.name or softmax.output[0]
    split = put_constant(
        model, f"heads_{found.heads}x{found.size}", np.array([0, 0, found.heads, found.size])
    )
    width = found.heads * found.size
    join = put_constant(model, f"width_{width}", np.array([0, 0, width]))
    root = put_constant(model, f"root_{found.size}", np.float32(math.sqrt(found.size)))
    made = []
    for name, part, perm in zip("qkv", found.inputs, (HEADS_FIRST, KEYS, HEADS_FIRST), strict=True):
        made.append(node("Reshape", [part, split], f"{stem}/{name}_split"))
        made.append(node("Transpose", [f"{stem}/{name}_split"], f"{stem}/{name}", perm=perm))
    made.append(node("MatMul", [f"{stem}/q", f"{stem}/k"], f"{stem}/product"))
    made.append(node("Div", [f"{stem}/product", root], f"{stem}/scores"))
    scores = f"{stem}/scores"
    if found.mask:
        made.append(node("Add", [scores, f"{found.mask.name}_as_sum"], f"{stem}/masked"))
        scores = f"{stem}/masked"
    made.append(node("Softmax", [scores], f"{stem}/shares", axis=-1))
    made.append(node("MatMul", [f"{stem}/shares", f"{stem}/v"], f"{stem}/mixed"))
    made.append(node("Transpose", [f"{stem}/mixed"], f"{stem}/by_position", perm=HEADS_FIRST))
    last = node("Reshape", [f"{stem}/by_position", join], end.output[0])
    last.name = end.name or end.output[0]
    return [*made, last]
