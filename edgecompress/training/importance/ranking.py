"""What to keep of parts that are ranked over all layers together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgecompress.errors import StageError


def keep_best(
    scores: Sequence[np.ndarray], remove: float, what: str, multiple: int = 1
) -> list[list[int]]:
    """Choose what to keep, ranked over all layers.

    Parameters
    ----------
    scores : sequence of numpy.ndarray
        Importance per layer.
    remove : float
        Share of all of them to remove; a little more where `multiple` asks for it.
    what : str
        ``heads`` or ``ffn``, for the error.
    multiple : int
        A layer keeps a multiple of this (where it loses any): kernels work on whole blocks. It is
        also the least that a layer keeps.

    Returns
    -------
    list of list of int
        Ascending indices per layer.

    Raises
    ------
    StageError
        When a layer would be left with nothing.
    """
    sizes = [len(layer) for layer in scores]
    least = [min(multiple, size) for size in sizes]
    budget = sum(sizes) - int(remove * sum(sizes) + 1e-9)
    if budget < sum(least):
        most = 1 - sum(least) / sum(sizes)
        raise StageError(
            f"{what}: {remove:g} would leave {budget} in {len(sizes)} layers and so empty one; "
            f"a layer keeps at least {least[0]}, so remove at most {int(most * 1000) / 1000:g}"
        )
    order = [np.argsort(-layer, kind="stable") for layer in scores]
    counts = _counts(scores, order, least, budget)
    if multiple > 1:
        counts = _whole_blocks(counts, sizes, multiple, budget)
    pairs = zip(order, counts, strict=True)
    return [sorted(layer[:count].tolist()) for layer, count in pairs]


def _counts(
    scores: Sequence[np.ndarray], order: Sequence[np.ndarray], least: Sequence[int], budget: int
) -> list[int]:
    free = [
        (-float(scores[layer][index]), layer)
        for layer, ranked in enumerate(order)
        for index in ranked[least[layer] :]
    ]
    counts = list(least)
    for _, layer in sorted(free)[: budget - sum(least)]:
        counts[layer] += 1
    return counts


def _whole_blocks(
    counts: Sequence[int], sizes: Sequence[int], multiple: int, budget: int
) -> list[int]:
    """Round counts down to multiples, then give what that freed to the largest remainders."""
    whole = [
        count if count == size else max(min(multiple, size), count - count % multiple)
        for count, size in zip(counts, sizes, strict=True)
    ]
    by_rest = sorted(range(len(counts)), key=lambda layer: whole[layer] - counts[layer])
    for layer in by_rest:
        more = min(whole[layer] + multiple, sizes[layer])
        if whole[layer] < counts[layer] and sum(whole) - whole[layer] + more <= budget:
            whole[layer] = more
    return whole
