"""What becomes of every layer of a graph: each scheme fills such a plan, one writer reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from edgecompress.errors import StageError
from edgecompress.quantization.arithmetic.blocks import Bits, Blocks
from edgecompress.quantization.arithmetic.weights import Quantized
from edgecompress.values import Json

Kernel = Literal["qdq", "integers", "blocks", "table", "rows", "shared", "fused"]
"""``qdq``: DequantizeLinear before weight and input, which ONNX Runtime fuses; ``integers``:
``MatMulInteger``; ``blocks``: ``MatMulNBits`` or ``GatherBlockQuantized``; ``table``: a look-up
with one scale; ``rows``: with one for each row; ``shared``: rows that are stored as the weight of a
linear layer; ``fused``: the operator's own form (``QAttention``, ``DynamicQuantizeLSTM`` …)."""
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
    """

    layers: Mapping[str, LayerPlan]
    left: Mapping[str, str] = field(default_factory=dict)
    ranges: Ranges = field(default_factory=dict)
    pairs: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, Quantized | Blocks] = field(default_factory=dict)

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
        )

    def to_json(self) -> Json:
        """Give what `from_json` reads; `codes` are left out."""
        return {
            "layers": {node: asdict(layer) for node, layer in self.layers.items()},
            "left": dict(self.left),
            "ranges": {name: list(ends) for name, ends in self.ranges.items()},
            "pairs": dict(self.pairs),
        }

    @classmethod
    def from_json(cls, document: Any) -> QuantPlan:
        """Read a plan.

        Raises
        ------
        StageError
            When it is none.
        """
        try:
            return cls(
                {str(node): LayerPlan(**layer) for node, layer in document["layers"].items()},
                {str(node): str(reason) for node, reason in document["left"].items()},
                {str(k): (float(v[0]), float(v[1])) for k, v in document["ranges"].items()},
                {str(k): str(v) for k, v in document["pairs"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            raise StageError("this is no plan of a quantized graph") from None
