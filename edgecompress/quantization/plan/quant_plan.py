"""What becomes of every layer of a graph: each scheme fills such a plan, one writer reads it."""

from __future__ import annotations

import base64
import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

import numpy as np

from edgecompress.errors import StageError
from edgecompress.quantization.arithmetic.blocks import Bits, Blocks
from edgecompress.quantization.arithmetic.weights import Quantized
from edgecompress.values import Json

Kernel = Literal["qdq", "integers", "blocks", "tied", "table", "rows", "shared", "fused"]
"""``qdq``: DequantizeLinear before weight and input, which ONNX Runtime fuses; ``integers``:
``MatMulInteger``; ``blocks``: ``MatMulNBits`` or ``GatherBlockQuantized``; ``tied``: both, of
blocks that are stored once; ``table``: a look-up with one scale; ``rows``: with one for each row;
``shared``: rows that are stored as the weight of a linear layer; ``fused``: the operator's own form
(``QAttention``, ``DynamicQuantizeLSTM`` …)."""
Activation = Literal["uint8", "int8", "dynamic", "none"]
"""A fixed range in unsigned or signed integers; a range found at run time; floats."""
Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """How one layer is written.

    Attributes
    ----------
    kernel, activation : str
    bits : int
        Of its weight.
    block : int
        Values that share a scale, with the kernel ``blocks``; else 0.
    per_channel, reduce_range, unsigned, symmetric : bool
        Of a weight of 8 bits, as `quantize_linear` takes them.
    search : bool
        Choose block scales by their error.
    floats : bool
        Multiply a weight in blocks with its input as it is, not rounded to 8 bits.
    offsets : bool
        Blocks of a linear layer's weight have offsets; these and scales have 8 bits.
    """

    kernel: Kernel
    activation: Activation = "none"
    bits: Bits = 8
    block: int = 0
    per_channel: bool = True
    reduce_range: bool = False
    unsigned: bool = False
    symmetric: bool = True
    search: bool = True
    floats: bool = False
    offsets: bool = False

    def to_json(self) -> Json:
        """Give what differs from the defaults."""
        given = {each.name: (getattr(self, each.name), each.default) for each in fields(self)}
        return {name: value for name, (value, usual) in given.items() if value != usual}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> LayerPlan:
        """Read what `to_json` gave.

        Raises
        ------
        TypeError, ValueError
            When it is none.
        """
        made = cls(**document)
        known = made.kernel in get_args(Kernel) and made.activation in get_args(Activation)
        if not known or made.bits not in (4, 8) or not isinstance(made.block, int):
            raise ValueError(document)
        return made


@dataclass(frozen=True, slots=True)
class Correction:
    """What is added to a convolution's bias.

    Attributes
    ----------
    unit : float
    codes : ndarray, int8, shape (outputs,)
        In units.
    """

    unit: float
    codes: np.ndarray[Any, Any]

    @property
    def values(self) -> np.ndarray[Any, Any]:
        """The numbers, float32 (outputs,)."""
        return self.codes.astype(np.float32) * np.float32(self.unit)

    def to_json(self) -> list[Any]:
        """Give the unit and the codes in base64."""
        return [self.unit, base64.b64encode(self.codes.tobytes()).decode()]

    @classmethod
    def from_json(cls, document: Any) -> Correction:
        """Read what `to_json` gave.

        Raises
        ------
        TypeError, ValueError
            When it is none.
        """
        unit, text = document
        if not math.isfinite(unit):
            raise ValueError(document)
        return cls(float(unit), np.frombuffer(base64.b64decode(text, validate=True), np.int8))


@dataclass(frozen=True, slots=True)
class QuantPlan:
    """What becomes of every layer of a graph.

    Attributes
    ----------
    layers : mapping of str to LayerPlan
        By node.
    left : mapping of str to str
        Nodes that stay as they are, and why.
    ranges : mapping of str to (float, float)
        What the integers of a tensor cover.
    pairs : mapping of str to str
        Tensors around convolutions that are kept in 8 bits, and the tensor whose range they have.
    codes : mapping of str to Quantized or Blocks
        Weights that are quantized already, by name: with 8 bits of shape (inputs, outputs), in
        blocks with the outputs as rows. They are no part of the plan's JSON.
    corrections : mapping of str to Correction
        By convolution, what makes up for the rounding of its weights.
    """

    layers: Mapping[str, LayerPlan]
    left: Mapping[str, str] = field(default_factory=dict)
    ranges: Ranges = field(default_factory=dict)
    pairs: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, Quantized | Blocks] = field(default_factory=dict)
    corrections: Mapping[str, Correction] = field(default_factory=dict)

    def joined(self, other: QuantPlan) -> QuantPlan:
        """Give one plan of two for one graph, of which each leaves the other's layers alone."""
        layers = {**self.layers, **other.layers}
        left = {**self.left, **other.left}
        return QuantPlan(
            layers,
            {node: reason for node, reason in left.items() if node not in layers},
            {**self.ranges, **other.ranges},
            {**self.pairs, **other.pairs},
            {**self.codes, **other.codes},
            {**self.corrections, **other.corrections},
        )

    def to_json(self, known: Container[str] = ()) -> Json:
        """Give what `from_json` reads: layers that are written alike stand together.

        `codes` are left out, and the ranges of tensors that are `known`.
        """
        alike: dict[LayerPlan, list[str]] = {}
        for node, layer in self.layers.items():
            alike.setdefault(layer, []).append(node)
        corrections = {node: one.to_json() for node, one in self.corrections.items()}
        return {
            "layers": [{**layer.to_json(), "nodes": nodes} for layer, nodes in alike.items()],
            "left": dict(self.left),
            "ranges": {n: list(ends) for n, ends in self.ranges.items() if n not in known},
            "pairs": dict(self.pairs),
        } | ({"corrections": corrections} if corrections else {})

    @classmethod
    def from_json(cls, document: Any, known: Any = None) -> QuantPlan:
        """Read a plan.

        Parameters
        ----------
        document : object
            What `to_json` gave, read from JSON.
        known : object, optional
            The ranges that were left out, by tensor.

        Raises
        ------
        StageError
            When it is none.
        """
        try:
            layers = {
                str(node): LayerPlan.from_json({k: v for k, v in group.items() if k != "nodes"})
                for group in document["layers"]
                for node in group["nodes"]
            }
            ranges = {**(known or {}), **document["ranges"]}
            corrections = document.get("corrections", {}).items()
            return cls(
                layers,
                {str(node): str(reason) for node, reason in document["left"].items()},
                {str(k): (float(v[0]), float(v[1])) for k, v in ranges.items()},
                {str(k): str(v) for k, v in document["pairs"].items()},
                corrections={str(k): Correction.from_json(v) for k, v in corrections},
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            raise StageError("this is no plan of a quantized graph") from None
