"""Inputs made for graphs of which nothing is known but what the file says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgecompress.errors import DataError, RecipeError, StageError
from edgecompress.models.fitting import fitting_plan, is_open, row_of
from edgecompress.models.graph import graph_facts
from edgecompress.models.made import Range, made_row, number_specs
from edgecompress.models.runner import open_onnx
from edgecompress.models.sizes import DEFAULT, SizePlan, resolved
from edgecompress.values import Feed, OnnxModel, TensorSpec
from edgecompress.words import meant

COUNT = 16
"""Items that are made: enough that no cache holds the answers."""

MAX_BYTES = 256 * 2**20
"""Of all items together; large inputs get fewer items, at least one."""

Bounds = Mapping[str, int | tuple[int, int]]


def synthetic_items(
    models: Sequence[OnnxModel],
    sizes: Mapping[str, int],
    bounds: Bounds,
    count: int = COUNT,
    seed: int = 0,
) -> list[list[Feed]]:
    """Make inputs for several graphs from their signatures; equal signatures get the same ones.

    Values are as `edgecompress.models.made` says. Where sizes are open the first model is run
    here once; if it refuses them, others are tried (`edgecompress.models.fitting`).

    Parameters
    ----------
    models : sequence of OnnxModel
    sizes : mapping
        See `edgecompress.models.sizes.resolved`.
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
    graphs = [number_specs(model) for model in models]
    inputs = sorted({spec.name for specs in graphs for spec in specs})
    for name, bound in bounds.items():
        if name not in inputs:
            raise RecipeError(
                f"the graph has no such input{meant(name, inputs)}", key=f"inputs.bounds.{name}"
            )
        if isinstance(bound, int) and bound < 1:
            raise RecipeError(f"a bound is at least 1, not {bound}", key=f"inputs.bounds.{name}")
        if not isinstance(bound, int) and bound[0] >= bound[1]:
            raise RecipeError("the first bound must be the smaller", key=f"inputs.bounds.{name}")
    ranges = _ranges(models, bounds)
    plan = _plan(models[0], graphs[0], ranges, sizes)
    shapes = resolved(graphs, sizes, plan)
    made: dict[tuple[TensorSpec, ...], list[Feed]] = {}
    found = []
    for specs, sized in zip(graphs, shapes, strict=True):
        key = tuple(replace(spec, shape=sized[spec.name]) for spec in specs)
        if key not in made:
            made[key] = _items(key, ranges, frozenset(bounds), count, seed, plan)
        found.append(made[key])
    return found


def made_feeds(
    model: OnnxModel, shapes: Iterable[tuple[int, int]], seed: int = 0, *, packed: bool = True
) -> list[Feed]:
    """Make up inputs on which `model` runs: of these shapes, or of others where it refuses them.

    Parameters
    ----------
    model : OnnxModel
        What can be run on this machine; where one is made of another, the first.
    shapes : iterable of (int, int)
        Batch and length of each input.
    seed : int
        Of the first; each has the next.
    packed : bool
        Whether weights are packed for speed.

    Raises
    ------
    StageError
        When nothing fits, or an input is of a kind that cannot be made up.
    """
    try:
        specs = number_specs(model)
    except DataError as error:  # of a stage: the chain fails, and not the command
        raise StageError(str(error)) from None
    ranges = _ranges([model], {})
    runner = open_onnx(model, packed=packed)
    known: dict[tuple[int, int], SizePlan] = {}
    feeds: list[Feed] = []
    for number, shape in enumerate(shapes):
        if shape not in known:
            plan, why = fitting_plan(
                specs, ranges, runner, SizePlan(*shape), known=tuple(known.values())
            )
            if plan is None:
                raise StageError(
                    f"made-up inputs do not fit the model ({why}); --scheme static takes real "
                    "ones with --data FILE.npz"
                )
            known[shape] = plan
        feeds.append(row_of(specs, ranges, known[shape], seed + number))
    return feeds


def _ranges(models: Sequence[OnnxModel], bounds: Bounds) -> dict[str, Range]:
    """Give what each input may hold: as `bounds` say, else below the smallest table it indexes."""
    smallest: dict[str, int] = {}
    for model in models:
        for name, size in graph_facts(model.path).index_bounds.items():
            smallest[name] = min(size, smallest.get(name, size))
    return {
        name: (bound if isinstance(bound, tuple) else (0, bound))
        for name, bound in {**smallest, **bounds}.items()
    }


def _plan(
    model: OnnxModel,
    specs: Sequence[TensorSpec],
    ranges: Mapping[str, Range],
    sizes: Mapping[str, int],
) -> SizePlan:
    """Give sizes that `model` takes on this machine, or the usual ones where none is found."""
    if not is_open(specs):
        return DEFAULT
    try:
        runner = open_onnx(model)
    except StageError:  # the target loads it too, and says what is wrong
        return DEFAULT
    return fitting_plan(specs, ranges, runner, DEFAULT, sizes)[0] or DEFAULT


def _items(
    specs: Sequence[TensorSpec],
    ranges: Mapping[str, Range],
    bound: frozenset[str],
    count: int,
    seed: int,
    plan: SizePlan,
) -> list[Feed]:
    generator = np.random.default_rng(seed)
    size = sum(
        math.prod(int(n) for n in spec.shape) * np.dtype(spec.dtype).itemsize for spec in specs
    )
    count = max(1, min(count, MAX_BYTES // max(size, 1)))
    return [made_row(specs, ranges, generator, bound, plan) for _ in range(count)]
