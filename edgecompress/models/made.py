"""Inputs made for graphs of which nothing is known but what the file says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgecompress.errors import RecipeError
from edgecompress.models.graph import signature
from edgecompress.models.sizes import DEFAULT, SizePlan
from edgecompress.models.specs import check_numbers
from edgecompress.values import OnnxModel, TensorSpec

SAMPLE_RATE = 16000
"""What speech models are given."""

Row = dict[str, np.ndarray[Any, Any]]
Range = tuple[int, int] | None


def number_specs(model: OnnxModel) -> tuple[TensorSpec, ...]:
    """Give a graph's inputs, all of which values can be made for.

    Raises
    ------
    DataError
        When one is no tensor, of an open rank, or of a dtype that cannot be made up.
    """
    specs = signature(model)
    check_numbers(specs, model.path)
    return specs


def made_row(
    specs: Sequence[TensorSpec],
    ranges: Mapping[str, Range],
    generator: np.random.Generator,
    bound: frozenset[str] = frozenset(),
    plan: SizePlan = DEFAULT,
) -> Row:
    """Make one value for each input.

    Floats are standard normal. Whole numbers lie in the range that is set for them, else below the
    size of the tables that the graph indexes with them, else they are 0 or 1; bytes in four axes
    are pixels. Attention masks are all 1 and booleans true, segment numbers 0, positions count up,
    lengths are the plan's and sampling rates 16 kHz.

    Parameters
    ----------
    specs : sequence of TensorSpec
        With whole numbers as sizes and numpy's names as dtypes.
    ranges : mapping
        Lowest value and the one after the highest.
    generator : numpy.random.Generator
    bound : frozenset of str
        Inputs whose ranges a person set: these are kept whatever the input is called.
    plan : SizePlan

    Raises
    ------
    RecipeError
        When a range that was set is not within the dtype.
    """
    return {
        spec.name: _array(spec, ranges.get(spec.name), spec.name in bound, generator, plan)
        for spec in specs
    }


def _array(
    spec: TensorSpec, limits: Range, asked: bool, generator: np.random.Generator, plan: SizePlan
) -> np.ndarray[Any, Any]:
    """Make one input; `limits` are from the graph unless `asked` for."""
    shape = tuple(int(size) for size in spec.shape)
    dtype, word = np.dtype(spec.dtype), spec.name.lower()
    whole = dtype.kind in "iu"
    if limits is not None and whole:
        limits = _within(spec, limits, asked)
    if not asked:
        if dtype == np.bool_ or ("mask" in word and limits is None):
            return np.ones(shape, dtype)
        told = _told(word, plan) if whole and limits is None and len(shape) < 2 else None
        if told is not None:
            return np.full(shape, min(told, int(np.iinfo(dtype).max)), dtype)
        if whole and _numbers_segments(word):
            return np.zeros(shape, dtype)
        if whole and "position" in word and shape:
            steps = np.arange(shape[-1]) % (limits[1] if limits else max(shape[-1], 1))
            return np.broadcast_to(steps, shape).astype(dtype)
    if limits is not None and asked and dtype.kind == "f":
        return generator.uniform(*limits, shape).astype(dtype)
    if limits is not None or whole:
        pixels = dtype == np.uint8 and len(shape) == 4
        return generator.integers(*(limits or (0, 256 if pixels else 2)), shape).astype(dtype)
    return np.asarray(generator.standard_normal(shape)).astype(dtype)


def _told(word: str, plan: SizePlan) -> int | None:
    """Give what an input tells the graph: how long another one is, or its sampling rate."""
    if re.search(r"(^|_)(len|lens|length|lengths|seqlen|seqlens)$", word):
        return plan.length
    if re.fullmatch(r"sr|.*sampl(e|ing)_?rate", word):
        return SAMPLE_RATE
    return None


def _numbers_segments(word: str) -> bool:
    """Whether an input numbers the segments of a text (``token_type_ids``)."""
    return "token_type" in word or "segment" in word or word == "type_ids"


def _within(spec: TensorSpec, limits: tuple[int, int], asked: bool) -> tuple[int, int]:
    """Keep limits within what the dtype holds; what was asked for must be."""
    info = np.iinfo(spec.dtype)
    if asked and (limits[0] < info.min or limits[1] - 1 > info.max):
        raise RecipeError(
            f"{spec.dtype} holds {info.min} to {info.max}, not all of {limits[0]} to "
            f"{limits[1] - 1}",
            key=f"inputs.bounds.{spec.name}",
        )
    return max(limits[0], int(info.min)), min(limits[1], int(info.max) + 1)
