"""Inputs made for graphs of which nothing is known but what the file says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgecompress.errors import DataError, RecipeError
from edgecompress.targets.base import Feeds, feeds_from_rows
from edgecompress.targets.graph import graph_facts, signature
from edgecompress.targets.sizes import resolved
from edgecompress.validation import nearest
from edgecompress.values import OnnxModel, TensorSpec

COUNT = 16
"""Items that are made: enough that no cache holds the answers."""

MAX_BYTES = 256 * 2**20
"""Of all items together; large inputs get fewer items, at least one."""

NUMBERS = frozenset(
    ["bool", "float16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
"""Dtypes of which values can be made, and that numpy can hold."""

Bounds = Mapping[str, int | tuple[int, int]]
Range = tuple[int, int] | None


def synthetic_feeds(
    models: Sequence[OnnxModel],
    sizes: Mapping[str, int],
    bounds: Bounds,
    count: int = COUNT,
    seed: int = 0,
) -> list[Feeds]:
    """Make inputs for several graphs from their signatures; equal signatures get the same ones.

    Floats are standard normal. Whole numbers lie below the bound that is set for them, else below
    the size of the tables that the graph indexes with them, else they are 0 or 1; bytes in four
    axes are pixels. Attention masks are all 1 and booleans true, segment numbers 0, and positions
    count up.

    Parameters
    ----------
    models : sequence of OnnxModel
    sizes : mapping
        See `edgecompress.targets.sizes.resolved`.
    bounds : mapping
        By input: ``n`` for 0 to n − 1, or (low, high) for low to high − 1.
    count : int
        Items to make, at most.
    seed : int

    Raises
    ------
    DataError
        When an input is of a kind that cannot be made up.
    RecipeError
        When `sizes` or `bounds` name what the graphs do not have, or a bound cannot be kept.
    """
    graphs = [makeable(model) for model in models]
    inputs = sorted({spec.name for specs in graphs for spec in specs})
    for name, bound in bounds.items():
        if name not in inputs:
            raise RecipeError(
                f"the graph has no such input{nearest(name, inputs)}", key=f"inputs.bounds.{name}"
            )
        if isinstance(bound, int) and bound < 1:
            raise RecipeError(f"a bound is at least 1, not {bound}", key=f"inputs.bounds.{name}")
        if not isinstance(bound, int) and bound[0] >= bound[1]:
            raise RecipeError("the first bound must be the smaller", key=f"inputs.bounds.{name}")
    shapes = resolved(graphs, sizes)
    smallest: dict[str, int] = {}
    for model in models:
        for name, size in graph_facts(model.path).index_bounds.items():
            smallest[name] = min(size, smallest.get(name, size))
    ranges: dict[str, Range] = {
        name: (bound if isinstance(bound, tuple) else (0, bound))
        for name, bound in {**smallest, **bounds}.items()
    }
    made: dict[tuple[TensorSpec, ...], Feeds] = {}
    feeds = []
    for specs, sized in zip(graphs, shapes, strict=True):
        key = tuple(replace(spec, shape=sized[spec.name]) for spec in specs)
        if key not in made:
            made[key] = _feeds(key, ranges, frozenset(bounds), count, seed)
        feeds.append(made[key])
    return feeds


def makeable(model: OnnxModel) -> tuple[TensorSpec, ...]:
    """Give a graph's inputs, all of which values can be made for.

    Raises
    ------
    DataError
        When one is no tensor, of an open rank, or of a dtype that cannot be made up.
    """
    specs = signature(model)
    for spec in specs:
        if spec.dtype not in NUMBERS:
            raise DataError(
                f"input {spec.name!r} is of dtype {spec.dtype}, which cannot be fed; give the "
                "graph numbers, with what turns the others into numbers left out of it",
                file=model.path,
            )
    return specs


def _feeds(
    specs: Sequence[TensorSpec],
    ranges: Mapping[str, Range],
    bound: frozenset[str],
    count: int,
    seed: int,
) -> Feeds:
    generator = np.random.default_rng(seed)
    size = sum(
        math.prod(int(n) for n in spec.shape) * np.dtype(spec.dtype).itemsize for spec in specs
    )
    count = max(1, min(count, MAX_BYTES // max(size, 1)))
    rows = [
        {
            spec.name: _array(spec, ranges.get(spec.name), spec.name in bound, generator)
            for spec in specs
        }
        for _ in range(count)
    ]
    return feeds_from_rows(rows, range(count))


def _array(
    spec: TensorSpec, limits: Range, asked: bool, generator: np.random.Generator
) -> np.ndarray:
    """Make one input; `limits` are from the graph unless `asked` for."""
    shape = tuple(int(size) for size in spec.shape)
    dtype, word = np.dtype(spec.dtype), spec.name.lower()
    whole = dtype.kind in "iu"
    if limits is not None and whole:
        limits = _within(spec, limits, asked)
    if not asked:
        if dtype == np.bool_ or ("mask" in word and limits is None):
            return np.ones(shape, dtype)
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
    return generator.standard_normal(shape).astype(dtype)


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
