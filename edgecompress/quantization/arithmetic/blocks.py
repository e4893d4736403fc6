"""Weights of 4 or 8 bits with one scale per block, as ONNX Runtime's block kernels read them.

`com.microsoft.GatherBlockQuantized` looks rows up and dequantizes them; `com.microsoft.MatMulNBits`
multiplies. Both keep codes 0 … 2^bits − 1 in uint8, two of 4 bits to a byte with the earlier one in
the low half, and subtract 2^(bits − 1) before they multiply with the block's scale.

Codes of 4 bits reach from −8 to 7. In a table each block's scale has the sign that puts its largest
value at −8, and is stored in 16 bits: of random normal values both together leave 15 % less error
in the same bytes than scales of 32 bits and one sign with blocks twice as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]
Bits = Literal[4, 8]
Block = Literal[16, 32, 64, 128]

SMALLEST_BLOCK = 16
"""What both operators take at least."""
SHRINKS = np.linspace(0.7, 1.0, 16, dtype=np.float32)
"""Shares of a block's largest value that are tried as the end of its range."""
OFFSET_UNIT = np.float32(1 / 16)
"""Of a scale: in these units offsets are counted in 8 bits."""
CHUNK_VALUES = 1 << 20
HALF_SCALES = (1e-4, 60_000.0)
"""Tables whose largest value lies between these have scales that fp16 can tell apart."""
LEAST_IMPORTANCE = np.float32(1e-6)


@dataclass(frozen=True, slots=True)
class EightBits:
    """Scales and offsets of blocks as a file keeps them in 8 bits (`arithmetic.lines`).

    Attributes
    ----------
    codes : ndarray, uint8, shape (rows, blocks)
        A scale is ``exp(codes · step + least)``.
    step, least : float32
    counts : ndarray, int8, shape (rows, blocks), or None
        An offset is ``counts · OFFSET_UNIT · scale``.
    """

    codes: Array
    step: np.float32
    least: np.float32
    counts: Array | None = None


@dataclass(frozen=True, slots=True)
class Blocks:
    """Rows of integers with a scale for each block of each row.

    Attributes
    ----------
    packed : ndarray, uint8, shape (rows, width · bits / 8)
    scale : ndarray, float32 or float16, shape (rows, width / block)
        Values are decoded in float32 in either case.
    bits, block : int
    offset : ndarray, float32, shape (rows, width / block), or None
        Is added to each value of a block.
    eight : EightBits or None
        The form of 8 bits that scale and offset come from.
    """

    packed: Array
    scale: Array
    bits: Bits
    block: int
    offset: Array | None = None
    eight: EightBits | None = None


def fitting_block(width: int, wanted: int) -> int | None:
    """Give the largest block of at most `wanted` values that divides `width`; None: there is none.

    >>> fitting_block(192, 128), fitting_block(24, 64)
    (64, None)
    """
    block = wanted
    while block >= SMALLEST_BLOCK:
        if width % block == 0:
            return block
        block //= 2
    return None


def quantize_blocks(weight: Array, bits: Bits, block: int, *, search: bool = True) -> Blocks:
    """Quantize the rows of a weight block by block, symmetrically.

    Parameters
    ----------
    weight : ndarray, float32, shape (rows, width)
        `block` divides its width.
    bits : int
    block : int
    search : bool
        Try several ends of each block's range and keep that of the least squared error (Choukroun
        et al., 2019, "Low-bit quantization of neural networks for efficient inference"); else the
        largest absolute value is the end (round to nearest).
    """
    return _by_chunks(weight, bits, block, search and bits < 8)


def quantize_block_table(weight: Array, block: int, *, search: bool = True) -> Blocks:
    """Quantize a table to 4 bits block by block, with signed scales of 16 bits where they fit.

    Parameters
    ----------
    weight : ndarray, float32, shape (rows, width)
        `block` divides its width. Where its largest value is beyond `HALF_SCALES`, scales have 32
        bits.
    block : int
    search : bool
        As in `quantize_blocks`.
    """
    most = float(np.abs(weight).max(initial=0.0))
    half = HALF_SCALES[0] <= most <= HALF_SCALES[1]
    return _by_chunks(weight, 4, block, search, signed=True, half=half)


def _by_chunks(
    weight: Array, bits: Bits, block: int, search: bool, *, signed: bool = False, half: bool = False
) -> Blocks:
    rows, width = weight.shape
    packed = np.empty((rows, width * bits // 8), np.uint8)
    scale = np.empty((rows, width // block), np.float16 if half else np.float32)
    step = max(1, CHUNK_VALUES // width)
    for start in range(0, rows, step):
        part = weight[start : start + step].astype(np.float32, copy=False)
        values = part.reshape(len(part), -1, block)
        codes, scales = _quantize(values, bits, search, signed=signed, half=half)
        packed[start : start + step] = pack(codes.reshape(len(part), width), bits)
        scale[start : start + step] = scales
    return Blocks(packed, scale, bits, block)


def dequantize_blocks(blocks: Blocks) -> Array:
    """Give the values that are looked up or multiplied with: float32, shape (rows, width)."""
    codes = blocks.packed
    if blocks.bits == 4:
        codes = np.stack([codes & 15, codes >> 4], axis=-1).reshape(len(codes), -1)
    middle = np.float32(1 << (blocks.bits - 1))
    values = codes.reshape(*blocks.scale.shape, blocks.block).astype(np.float32) - middle
    values *= blocks.scale[..., None].astype(np.float32)
    if blocks.offset is not None:
        values += blocks.offset[..., None]
    return values.reshape(len(codes), -1)


def importance_of_blocks(importance: Array, block: int) -> Array:
    """Give what weighs squared errors: float32 (blocks, block), at most 1."""
    weights = importance.reshape(-1, block).astype(np.float32)
    # Inputs that were always 0 count a little, so that their weights keep a sensible scale.
    return weights / np.maximum(weights.max(), np.finfo(np.float32).tiny) + LEAST_IMPORTANCE


def block_scales(
    weight: Array, bits: Bits, block: int, importance: Array, *, search: bool = True
) -> Array:
    """Find the scale of each block whose squared error, weighed by input, is least.

    Parameters
    ----------
    weight : ndarray, float32, shape (rows, width)
        `block` divides its width.
    bits : int
    block : int
    importance : ndarray, shape (width,)
        Mean square of each input, or a multiple of it.
    search : bool
        As in `quantize_blocks`.

    Returns
    -------
    ndarray, float32, shape (rows, width / block)
    """
    weights = importance_of_blocks(importance, block)
    scale = np.empty((len(weight), weight.shape[1] // block), np.float32)
    step = max(1, CHUNK_VALUES // weight.shape[1])
    for start in range(0, len(weight), step):
        part = weight[start : start + step].astype(np.float32, copy=False)
        values = part.reshape(len(part), -1, block)
        scale[start : start + step] = _quantize(values, bits, search and bits < 8, weights)[1]
    return scale


def _quantize(
    values: Array,
    bits: Bits,
    search: bool,
    weights: Array | None = None,
    *,
    signed: bool = False,
    half: bool = False,
) -> tuple[Array, Array]:
    """Codes, uint8 (rows, blocks, block), and scales, float32 (rows, blocks)."""
    middle = 1 << (bits - 1)
    most = np.abs(values).max(axis=-1)
    if signed:  # the largest value becomes the lowest code
        most = np.where(values.max(axis=-1) == most, -most, most)
    best_error = np.full(most.shape, np.inf, np.float32)
    best_scale = np.ones_like(most)
    best_codes = np.full(values.shape, middle, np.uint8)
    for shrink in SHRINKS if search else (np.float32(1.0),):
        scale = most * shrink / np.float32(middle - 1)
        if half:
            scale = scale.astype(np.float16).astype(np.float32)
        scale = np.where(np.abs(scale) < np.finfo(np.float32).tiny, np.float32(1.0), scale)
        codes = np.clip(np.round(values / scale[..., None]), -middle, middle - 1)
        squares = np.square(codes * scale[..., None] - values)
        error = (squares if weights is None else squares * weights).sum(axis=-1)
        better = error < best_error
        best_error = np.where(better, error, best_error)
        best_scale = np.where(better, scale, best_scale)
        best_codes = np.where(better[..., None], (codes + middle).astype(np.uint8), best_codes)
    return best_codes, best_scale


def pack(codes: Array, bits: Bits) -> Array:
    """Put codes, uint8 (rows, width), as the kernels read them: uint8 (rows, width · bits / 8)."""
    return codes[:, 0::2] | (codes[:, 1::2] << 4) if bits == 4 else codes
