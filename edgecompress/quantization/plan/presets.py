"""Integer types of weights and activations for one kind of processor, or for all of them.

The one choice that the answers hang on: AVX2 and AVX-512 without VNNI add two products of a uint8
activation and an int8 weight in 16 bits, and 255·127 + 255·127 = 64770 does not fit. With weights
of 7 bits it does: 255·64 + 255·64 = 32640 ≤ 32767. VNNI and Arm's dot product add in 32 bits; Arm
without it adds two products of int8 numbers in 16 bits, which fits unless all four are -128.
Source: ONNX Runtime, "Quantize ONNX models", data type selection; docs/portability.md has what the
targets of this project showed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

PresetName = Literal["x86-vnni", "x86-avx2", "arm-dotprod", "arm-v8", "portable"]
IntegerType = Literal["int8", "uint8"]


@dataclass(frozen=True, slots=True)
class Preset:
    """Fields of the quantization stages that belong together.

    Attributes
    ----------
    weight, activation : {"int8", "uint8"}
        Types of the two factors of a linear layer.
    symmetric : bool
        The weights' zero point is the middle of their range.
    per_channel : bool
        One weight scale for each output of a linear layer.
    reduce_range : bool
        Weights in 7 bits.
    promised : frozenset of str
        Fields that a recipe cannot set otherwise, because what the preset promises rests on them.
    """

    weight: IntegerType = "int8"
    activation: IntegerType = "uint8"
    symmetric: bool = True
    per_channel: bool = True
    reduce_range: bool = False
    promised: frozenset[str] = frozenset()


PRESETS: Mapping[PresetName, Preset] = {
    "x86-vnni": Preset(),
    # uint8 weights would not saturate either, and would take 1.24 times the instructions.
    "x86-avx2": Preset(reduce_range=True),
    # int8 activations count the same on both, uint8 weights 1.4 times the instructions on arm-v8.
    "arm-dotprod": Preset(),
    "arm-v8": Preset(),
    "portable": Preset(
        reduce_range=True, promised=frozenset({"weight", "activation", "reduce_range"})
    ),
}
"""The presets by name. Those of processors that need no 7 bits are equal because it was measured
so: what is fastest on one of them is fastest, within 1 %, on each."""
