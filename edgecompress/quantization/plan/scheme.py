"""What is to be quantized, and how: the settings of one rewrite of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgecompress.quantization.arithmetic.blocks import Bits, Blocks
from edgecompress.quantization.arithmetic.weights import Quantized

# DynamicQuantizeLinear came with opset 11, scales per channel in QDQ with 13.
LEAST_OPSET = {"dynamic": 11, "static": 13, "weight-only": 11}
LEAST_TABLE = 0.01
"""Of the values of all tables: a smaller one keeps 8 bits. On a MiniLM tagger 4 bits for the two
rows of its token types cost more than for its 30522 words, and saved 400 bytes."""
EXCLUDED = "excluded by the recipe"
NOT_ASKED = {
    "table": "embeddings are off in the recipe",
    "embed_layer_norm": "embeddings are off in the recipe",
    "matmul": "linear layers are off in the recipe",
    "gemm": "linear layers are off in the recipe",
    "attention": "linear layers are off in the recipe",
    "conv": "convolutions are quantized by quantize.static only",
    "lstm": "recurrent layers are quantized by quantize.dynamic and quantize.static only",
}


@dataclass(frozen=True, slots=True)
class Scheme:
    """What to quantize and how.

    Attributes
    ----------
    per_channel : bool
        One weight scale for each output of a linear layer.
    reduce_range : bool
        Weights in 7 bits, for CPUs whose kernels saturate.
    embeddings : bool
        Quantize tables that are looked up, too.
    exclude : frozenset of str
        Names of nodes or weights that stay fp32.
    ranges : mapping of str to (float, float), optional
        Lowest and highest value of each linear layer's input; None is the dynamic scheme.
    unfit : mapping of str to str
        Static only: tensors that 8 bits cannot hold, and why; layers that read them stay fp32.
    held : mapping of str to str
        Names of weights whose layers stay fp32, and why.
    signed_activations : bool
        Static only, linear layers: int8 (symmetric) instead of uint8.
    unsigned_weights : bool
        Linear layers: uint8 instead of int8.
    symmetric_weights : bool
        Linear layers: the zero point is the middle.
    as_integers : frozenset of str
        Static only: weights whose layers are written as ``MatMulInteger`` instead of QDQ. ONNX
        Runtime merges a MatMul of two axes and its bias into a Gemm before it looks for QDQ pairs,
        and then computes that in fp32. Of a convolution: leave it in fp32.
    linears : {"int8", "blocks", "off"}
        Linear layers: int8 weights and activations; weights of `linear_bits` with a scale for each
        `linear_block` inputs, activations in fp32 to the outside; or as they are.
    embedding_bits : int
        8: one scale for a table; 4: one for each `embedding_block` values of a row.
    rows : bool
        Tables of 8 bits have one scale for each row.
    least_table : float
        Of the values of all tables: a table with fewer keeps 8 bits.
    share : bool
        Store a table of 8 bits that is also the weight of a linear layer once, with a scale for
        each row, where its zero points allow that.
    search : bool
        Choose block scales by their error.
    floats : bool
        Multiply weights in blocks with their inputs as they are.
    offsets : bool
        Weights in blocks have offsets beside their scales, and both have 8 bits.
    blocks : mapping of str to Blocks
        Weights of linear layers that are quantized already, by name, with the outputs as rows.
    weights : mapping of str to Quantized
        The same in 8 bits, shape (inputs, outputs).
    """

    per_channel: bool = True
    reduce_range: bool = False
    embeddings: bool = True
    exclude: frozenset[str] = frozenset()
    ranges: Mapping[str, tuple[float, float]] | None = None
    unfit: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[str, str] = field(default_factory=dict)
    signed_activations: bool = False
    unsigned_weights: bool = False
    symmetric_weights: bool = True
    as_integers: frozenset[str] = frozenset()
    linears: Literal["int8", "blocks", "off"] = "int8"
    linear_bits: Bits = 4
    linear_block: int = 32
    embedding_bits: Bits = 8
    embedding_block: int = 32
    rows: bool = False
    least_table: float = LEAST_TABLE
    share: bool = True
    search: bool = True
    floats: bool = False
    offsets: bool = False
    blocks: Mapping[str, Blocks] = field(default_factory=dict)
    weights: Mapping[str, Quantized] = field(default_factory=dict)

    @property
    def form(self) -> str:
        """The key of `LEAST_OPSET`."""
        if self.linears != "int8":
            return "weight-only"
        return "dynamic" if self.ranges is None else "static"
