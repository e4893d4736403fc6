"""Sizes at which a graph runs: those that are asked for, else others that it does take.

Names say much of what an open size may be, but not that a mask is as long as a cache and the new
tokens together, that a convolution wants at least so many frames, or that a network halves its
image five times. So what was made up is run, and where that fails other plans are tried.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgecompress.errors import StageError
from edgecompress.models.made import Range, Row, made_row
from edgecompress.models.sizes import SizePlan, resolved
from edgecompress.values import Runner, TensorSpec

LENGTHS = (1, 16, 64, 256, 1024, 4096, 16384, 65536)
PIXELS = (32, 64, 128, 256, 320, 512, 640, 1024)
MOST_VALUES = 2**24
MOST_TOKENS = 1024


def is_open(specs: Sequence[TensorSpec]) -> bool:
    """Tell whether any size of the inputs is open."""
    return any(isinstance(size, str) for spec in specs for size in spec.shape)


def row_of(
    specs: Sequence[TensorSpec],
    ranges: Mapping[str, Range],
    plan: SizePlan,
    seed: int = 0,
    sizes: Mapping[str, int] | None = None,
    bound: frozenset[str] = frozenset(),
) -> Row:
    """Make one value for each input, open sizes being the plan's."""
    (shapes,) = resolved([specs], sizes or {}, plan)
    sized = [replace(spec, shape=shapes[spec.name]) for spec in specs]
    return made_row(sized, ranges, np.random.default_rng(seed), bound, plan)


def fitting_plan(
    specs: Sequence[TensorSpec],
    ranges: Mapping[str, Range],
    runner: Runner,
    asked: SizePlan,
    sizes: Mapping[str, int] | None = None,
    known: Sequence[SizePlan] = (),
) -> tuple[SizePlan | None, str]:
    """Find a plan with which the graph runs: the one asked for, or the first other that does.

    Parameters
    ----------
    specs : sequence of TensorSpec
        With open sizes, and numpy's names as dtypes.
    ranges : mapping
        See `edgecompress.models.made.made_row`.
    runner : Runner
        What is run with a plan to see whether it fits.
    asked : SizePlan
    sizes : mapping, optional
        Sizes that a person set.
    known : sequence of SizePlan
        Plans that fitted before: they are tried second.

    Returns
    -------
    plan : SizePlan or None
        None where no plan fits. One whose outputs are all empty is taken where no other is.
    why : str
        The first line of what ONNX Runtime said of `asked`; empty where that fits.
    """
    from edgecompress.models.session import first_line

    why, empty = "", None
    others = (*known, *_plans(asked)) if is_open(specs) else ()
    for plan in dict.fromkeys((asked, *others)):
        if plan != asked and not _affordable(specs, plan, sizes):
            continue
        try:
            outputs = runner(row_of(specs, ranges, plan, sizes=sizes))
        except StageError as error:
            why = why or first_line(error.__cause__ or error)
            continue
        if any(np.size(one) for one in outputs.values()):
            return plan, why
        empty = empty or plan
    return empty, why


def _plans(asked: SizePlan) -> Iterator[SizePlan]:
    yield replace(asked, masks=2)
    yield replace(asked, batch=1)
    yield replace(asked, batch=1, masks=2)
    yield replace(asked, batch=1, images=False)
    for length, pixels in zip(LENGTHS, PIXELS, strict=True):
        plan = replace(asked, batch=1, length=length, pixels=pixels)
        yield plan
        yield replace(plan, masks=2)
        yield replace(plan, sounds=True, images=False)
    yield replace(asked, batch=1, past=0)
    yield replace(asked, batch=1, length=1, past=asked.length)


def _affordable(
    specs: Sequence[TensorSpec], plan: SizePlan, sizes: Mapping[str, int] | None
) -> bool:
    """Tell whether a plan can be tried: attention over very many tokens would take all memory."""
    (shapes,) = resolved([specs], sizes or {}, plan)
    values = sum(math.prod(int(size) for size in shape) for shape in shapes.values())
    tokens = any(np.dtype(spec.dtype).kind in "iu" and len(spec.shape) > 1 for spec in specs)
    return values <= MOST_VALUES and not (tokens and plan.length > MOST_TOKENS)
