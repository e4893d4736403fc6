"""The nodes around weights in blocks: scales and offsets of 8 bits, and what offsets add.

What is made of constants alone ONNX Runtime computes once, when it loads the file. There are many
such nodes, and their names are numbers: long ones would be a hundredth of a small model's file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgecompress.quantization.arithmetic.blocks import OFFSET_UNIT
from edgecompress.quantization.arithmetic.weights import array_tensor, scalar
from edgecompress.quantization.graphs.layers import OF_OFFSETS

if TYPE_CHECKING:
    from edgecompress.quantization.arithmetic.blocks import EightBits
    from edgecompress.quantization.write.draft import Draft


def scale_nodes(draft: Draft, name: str, eight: EightBits) -> str:
    """Keep scales in 8 bits; give the tensor that is made of them, float32 (rows, blocks)."""
    made = _as_float(draft, f"{name}_logs", eight.codes)
    for operator, part, value in (("Mul", "step", eight.step), ("Add", "least", eight.least)):
        given = f"{name}_{part}"
        draft.made[given] = scalar(value, given)
        made = draft.number(operator, [made, given])
    return draft.number("Exp", [made])


def offset_nodes(draft: Draft, name: str, scale: str, counts: np.ndarray[Any, Any]) -> str:
    """Keep offsets in 8 bits; give the tensor that is made of them, float32 (blocks, rows).

    They are in units of `OFFSET_UNIT`, which sums of inputs are given in, too.
    """
    made = draft.number("Mul", [_as_float(draft, f"{name}_offsets", counts), scale])
    return draft.number("Transpose", [made], perm=[1, 0])


def add_offsets(draft: Draft, node: str, product: str, sums: str, offsets: str, out: str) -> None:
    """Add to a product what the offsets of its weight make of the sums of its input."""
    draft.add("MatMul", [sums, offsets], f"{node}{OF_OFFSETS}")
    draft.add("Add", [product, f"{node}{OF_OFFSETS}:0"], f"{node}_with_offsets", out)


def sums_of(draft: Draft, data: str, width: int, block: int) -> str:
    """Give the sums of an input over each block of channels, made once: (…, blocks)."""
    key = (data, f"sums of {block}")
    if key not in draft.weights:
        members = (f"{width} inputs", f"blocks of {block}")
        if members not in draft.weights:
            each = np.repeat(np.eye(width // block, dtype=np.int8), block, axis=0)
            made = _as_float(draft, draft.free(f"members_{width}_of_{block}"), each)
            unit = draft.free(f"offset_unit_{width}_of_{block}")
            draft.made[unit] = scalar(OFFSET_UNIT, unit)
            draft.weights[members] = (draft.number("Mul", [made, unit]), "", "")
        name = draft.free(f"{data}_sums_of_{block}")
        inputs = [data, draft.weights[members][0]]
        draft.add("MatMul", inputs, f"{name}{OF_OFFSETS}", name)
        draft.weights[key] = (name, "", "")
    return draft.weights[key][0]


def _as_float(draft: Draft, name: str, codes: np.ndarray[Any, Any]) -> str:
    """Keep integers under `name`; give them as float32."""
    draft.made[name] = array_tensor(codes, name)
    return draft.as_float(name)
