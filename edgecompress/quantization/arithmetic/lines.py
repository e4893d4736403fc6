"""Weights in blocks that have an offset beside their scale, with 8 bits for each of both.

A value is ``scale · (code − 2^(bits − 1)) + offset``. ONNX Runtime's block kernels take whole
numbers as offsets only (zero points), or are slow. A fraction of a step gives 4 bits what most
blocks lack, whose values do not reach as far below 0 as above. The offsets' part of a product is
a second one: the sums of the inputs over each block, times the offsets.

Scales are kept as logarithms, offsets as sixteenths of their scale: both take 8 bits, with two
numbers for a whole weight (after the double quantization of Dettmers et al., 2023, "QLoRA").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecompress.quantization.arithmetic.blocks import (
    CHUNK_VALUES,
    OFFSET_UNIT,
    SHRINKS,
    Bits,
    Blocks,
    EightBits,
    block_scales,
    importance_of_blocks,
    pack,
)

Array = np.ndarray[Any, Any]

MOST_OFFSET = 127 * OFFSET_UNIT
"""Steps of its scale that an offset may have: 0 lies within what a block's codes reach."""
LEAST_SHARE = 2.0**-10
"""Of a weight's largest scale: smaller ones are raised to it."""
REFINEMENTS = 2
EXACT = np.float32(1e-6)
"""Share of a block's squares: less is the rounding of weights that were kept in 16 bits."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The line of each block of a weight, without its codes.

    Attributes
    ----------
    scale : ndarray, float32, shape (rows, blocks)
    offset : ndarray, float32, shape (rows, blocks), or None
    eight : EightBits
        What the file keeps of them.
    """

    scale: Array
    offset: Array | None
    eight: EightBits

    def codes(self, weight: Array, bits: Bits, block: int) -> Array:
        """Give the codes of values, uint8, both of shape (rows, width)."""
        middle = 1 << (bits - 1)
        values = weight.reshape(len(weight), -1, block)
        if self.offset is not None:
            values = values - self.offset[..., None]
        found = np.round(values / self.scale[..., None])
        codes = np.clip(found, -middle, middle - 1) + middle
        return codes.reshape(weight.shape).astype(np.uint8)

    def rows(self, part: slice) -> Lines:
        """Give the lines of some rows."""
        offset = None if self.offset is None else self.offset[part]
        return Lines(self.scale[part], offset, self.eight)

    def blocks(self, codes: Array, bits: Bits, block: int) -> Blocks:
        """Give a weight of these lines and of codes, uint8 (rows, width)."""
        return Blocks(pack(codes, bits), self.scale, bits, block, self.offset, self.eight)


def quantize_lines(
    weight: Array, bits: Bits, block: int, *, search: bool = True, offsets: bool = True
) -> Blocks:
    """Quantize the rows of a weight block by block, each with a scale and an offset of 8 bits.

    Parameters
    ----------
    weight : ndarray, float32, shape (rows, width)
        `block` divides its width.
    bits, block : int
    search : bool
        Choose each block's line by its squared error, not by its least and largest value.
    offsets : bool
        Without them blocks are symmetric. For 4 bits: of 8 few blocks need one.
    """
    lines = block_lines(weight, bits, block, search=search, offsets=offsets)
    codes = np.empty(weight.shape, np.uint8)
    for part in _parts(weight):
        values = weight[part].astype(np.float32, copy=False)
        codes[part] = lines.rows(part).codes(values, bits, block)
    return lines.blocks(codes, bits, block)


def block_lines(
    weight: Array,
    bits: Bits,
    block: int,
    importance: Array | None = None,
    *,
    search: bool = True,
    offsets: bool = True,
) -> Lines:
    """Find the line of each block, as the file keeps it.

    Parameters
    ----------
    weight : ndarray, float32, shape (rows, width)
    bits, block : int
    importance : ndarray, shape (width,), optional
        Mean square of each input, or a multiple of it, which weighs squared errors.
    search, offsets : bool
        As in `quantize_lines`.
    """
    each = np.ones(weight.shape[1], np.float32) if importance is None else importance
    if not offsets:
        scale = block_scales(weight, bits, block, each, search=search)
        # A block of zeros has any scale: it must not widen the range that others share.
        scale[~weight.reshape(*scale.shape, block).any(axis=-1)] = 0
        return _in_8_bits(scale, None)
    weights = importance_of_blocks(each, block)
    shape = (len(weight), weight.shape[1] // block)
    scale, offset = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for part in _parts(weight):
        values = weight[part].astype(np.float32, copy=False).reshape(-1, shape[1], block)
        scale[part], offset[part] = _fit(values, bits, weights, search=search)
    return _in_8_bits(scale, offset)


def _parts(weight: Array) -> list[slice]:
    step = max(1, CHUNK_VALUES // weight.shape[1])
    return [slice(start, start + step) for start in range(0, len(weight), step)]


def _fit(values: Array, bits: Bits, weights: Array, *, search: bool) -> tuple[Array, Array]:
    """Scale and offset of each block, float32 (rows, blocks), of values (rows, blocks, block)."""
    levels = np.float32((1 << bits) - 1)
    low, high = values.min(axis=-1), values.max(axis=-1)
    middle = (low + high) / 2
    shape = middle.shape
    best = (np.full(shape, np.inf, np.float32), np.ones_like(middle), middle)
    codes = np.zeros(values.shape, np.float32)
    for shrink in SHRINKS[::-1] if search else SHRINKS[-1:]:
        scale = (high - low) * shrink / levels
        best, codes = _better(best, codes, values, scale, middle + scale / 2, bits, weights)
        if (best[0] <= EXACT * (np.square(values) * weights).sum(axis=-1)).all():
            break  # the values lie on such lines already
    for _ in range(REFINEMENTS if search else 0):
        # The line of least squares through the values over their codes.
        total = weights.sum(axis=-1)
        code = (codes * weights).sum(axis=-1) / total
        value = (values * weights).sum(axis=-1) / total
        away = (codes - code[..., None]) * weights
        spread = (away * codes).sum(axis=-1)
        slope = (away * values).sum(axis=-1) / np.where(spread > 0, spread, np.float32(np.inf))
        offset = value - slope * code
        best, codes = _better(best, codes, values, slope, offset, bits, weights)
    return best[1], best[2]


def _better(
    best: tuple[Array, Array, Array],
    codes: Array,
    values: Array,
    scale: Array,
    offset: Array,
    bits: Bits,
    weights: Array,
) -> tuple[tuple[Array, Array, Array], Array]:
    """Keep the better line of each block: least error, scale and offset; and its codes."""
    half = 1 << (bits - 1)
    least = np.abs(offset) / MOST_OFFSET
    scale = np.maximum(scale, np.maximum(least, np.finfo(np.float32).tiny))
    found = np.clip(np.round((values - offset[..., None]) / scale[..., None]), -half, half - 1)
    away = found * scale[..., None] + offset[..., None] - values
    error = (np.square(away) * weights).sum(axis=-1)
    better = error < best[0]
    kept = tuple(
        np.where(better, one, other)
        for one, other in zip((error, scale, offset), best, strict=True)
    )
    return (kept[0], kept[1], kept[2]), np.where(better[..., None], found, codes)


def _in_8_bits(scale: Array, offset: Array | None) -> Lines:
    """Round scales, float32 (rows, blocks), and offsets to what 8 bits can tell."""
    largest = np.float32(max(scale.max(initial=0.0), np.finfo(np.float32).tiny))
    logs = np.log(np.maximum(scale, largest * np.float32(LEAST_SHARE)))
    least = logs.min(initial=np.log(largest))
    step = np.float32((np.log(largest) - least) / 255)
    codes = np.round((logs - least) / max(step, np.finfo(np.float32).tiny)).astype(np.uint8)
    made = np.exp(codes.astype(np.float32) * step + least)
    if offset is None:
        return Lines(made, None, EightBits(codes, step, least))
    counts = np.clip(np.round(offset / made / OFFSET_UNIT), -127, 127).astype(np.int8)
    offsets = counts.astype(np.float32) * made * OFFSET_UNIT
    return Lines(made, offsets, EightBits(codes, step, least, counts))
