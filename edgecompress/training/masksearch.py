"""Which heads and neurons to remove under a target: how many in each layer, then which.

1. `search` chooses how many parts each layer keeps: least total importance lost under a bound on
   the total cost. What a layer's parts cost is a table (weights, multiply-accumulates, measured
   milliseconds), so that steps and plateaus of real kernels count. Kwon et al. (2022) take a greedy
   walk over numbers of heads; with a table per layer it is a multiple-choice knapsack, solved here
   by dynamic programming over a finely divided cost, rounded up, so that the bound always holds.
2. `rearrange` exchanges parts within a layer with regard to how their effects add up or cancel.

Source: Kwon et al., 2022, "A fast post-training pruning framework for transformers", section 4.2;
the table and the knapsack as in Shen et al., 2022, "Structural pruning via latency-saliency
knapsack".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgecompress.errors import StageError

BINS = 4000
"""The bound is divided into so many steps: a choice is off by at most one part in 4000 a layer."""


@dataclass(frozen=True, eq=False)
class Choices:
    """How many parts a layer may keep, and what that costs and loses.

    Attributes
    ----------
    counts : numpy.ndarray
        int64 (choices,), ascending, the last one being all parts.
    costs : numpy.ndarray
        float64 (choices,): of the layer with so many parts.
    losses : numpy.ndarray
        float64 (choices,): importance of what is then removed.
    """

    counts: np.ndarray
    costs: np.ndarray
    losses: np.ndarray


def choices(importance: np.ndarray, counts: Sequence[int], costs: Sequence[float]) -> Choices:
    """Say what keeping the most important `counts` parts of a layer loses.

    Parameters
    ----------
    importance : numpy.ndarray
        float64 (parts,).
    counts : sequence of int
        Ascending, the last one being all parts.
    costs : sequence of float
        Of each count.
    """
    kept = np.asarray(counts, dtype=np.int64)
    return Choices(kept, np.asarray(costs, dtype=np.float64), lost(importance, kept))


def lost(importance: np.ndarray, counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """Sum up the importance of all but the most important parts, so many of them kept.

    Parameters
    ----------
    importance : numpy.ndarray
        float64 (parts,).
    counts : sequence of int

    Returns
    -------
    numpy.ndarray
        float64, one for each of `counts`.
    """
    ascending = np.concatenate([[0.0], np.cumsum(np.sort(importance))])
    return np.asarray(ascending[len(importance) - np.asarray(counts, dtype=np.int64)])


def best(importance: np.ndarray, count: int) -> list[int]:
    """Name the `count` most important parts, ascending; of equal ones the first."""
    return sorted(np.argsort(-importance, kind="stable")[:count].tolist())


def search(layers: Sequence[Choices], bound: float) -> list[int]:
    """Choose how many parts each entry of `layers` keeps.

    Parameters
    ----------
    layers : sequence of Choices
        One for each part of each layer that is pruned.
    bound : float
        The costs of what is kept add up to no more than this.

    Returns
    -------
    list of int
        One count for each of `layers`, the least lost that fits.

    Raises
    ------
    StageError
        When even the cheapest choices cost more.
    """
    least = least_cost(layers)
    if least > bound * (1 + 1e-12):
        raise StageError(f"the least possible is {least:g}, more than {bound:g}")
    if sum(layer.costs[-1] for layer in layers) <= bound:
        return [int(layer.counts[-1]) for layer in layers]
    # What is certain to be spent is taken off first, so that the bins divide what is free.
    spare = bound - least
    best = np.zeros(BINS + 1)
    taken = np.zeros((len(layers), BINS + 1), dtype=np.int32)
    steps = [_steps(layer, spare) for layer in layers]
    for number, (layer, step) in enumerate(zip(layers, steps, strict=True)):
        found = np.full(BINS + 1, np.inf)
        for choice, width in enumerate(step):
            if width > BINS:
                continue
            value = best[: BINS + 1 - width] + layer.losses[choice]
            better = value < found[width:]
            found[width:][better] = value[better]
            taken[number, width:][better] = choice
        best = found
    at, chosen = int(np.argmin(best)), []
    for number in range(len(layers) - 1, -1, -1):
        choice = int(taken[number, at])
        chosen.append(int(layers[number].counts[choice]))
        at -= steps[number][choice]
    return _filled(layers, chosen[::-1], bound)


def least_cost(layers: Sequence[Choices]) -> float:
    """Give what all layers cost at their cheapest choices."""
    return float(sum(layer.costs.min() for layer in layers))


def cost(layers: Sequence[Choices], chosen: Sequence[int]) -> float:
    """Give what the chosen counts cost together."""
    return float(
        sum(
            layer.costs[int(np.searchsorted(layer.counts, count))]
            for layer, count in zip(layers, chosen, strict=True)
        )
    )


def _steps(layer: Choices, spare: float) -> list[int]:
    """Give each choice's cost above the cheapest in bins, rounded up."""
    above = layer.costs - layer.costs.min()
    if spare <= 0:
        return [0 if value <= 0 else BINS + 1 for value in above]
    widths = np.ceil(above / spare * BINS - 1e-9)
    return [int(min(width, BINS + 1)) for width in widths]


def _filled(layers: Sequence[Choices], chosen: list[int], bound: float) -> list[int]:
    """Give back what rounding up left over, where it saves the most importance."""
    found = list(chosen)
    while True:
        spent = cost(layers, found)
        gains = []
        for number, layer in enumerate(layers):
            at = int(np.searchsorted(layer.counts, found[number]))
            for more in range(at + 1, len(layer.counts)):
                fits = spent - layer.costs[at] + layer.costs[more] <= bound
                if fits and layer.losses[more] < layer.losses[at]:
                    gains.append((layer.losses[at] - layer.losses[more], number, more))
        if not gains:
            return found
        _, number, more = max(gains)
        found[number] = int(layers[number].counts[more])


def rearrange(gradients: np.ndarray, keep: int) -> list[int]:
    """Choose `keep` parts of one layer so that what is removed has the least joint effect.

    Starts from the parts with the least squared gradients; then each of the others in turn, least
    first, is put among those to remove and the one whose going back helps most goes back. The joint
    effect is the squared sum of the removed parts' gradients, row by row: the block of the Fisher
    information that belongs to the layer. Source: Kwon et al., 2022, section 4.2.2.

    Parameters
    ----------
    gradients : numpy.ndarray
        float (rows, parts).
    keep : int

    Returns
    -------
    list of int
        Ascending parts to keep.
    """
    parts = gradients.shape[1]
    remove = parts - keep
    if not remove or not keep:
        return list(range(keep))
    values = gradients.astype(np.float64)
    joint = values.T @ values  # (parts, parts)
    own = np.diag(joint)
    order = np.argsort(own, kind="stable")
    removed = np.zeros(parts, dtype=bool)
    removed[order[:remove]] = True
    # joint[i] · removed: the inner product of part i's gradients with the sum of all removed ones.
    beside = joint[:, removed].sum(1)
    for part in order[remove:]:
        removed[part] = True
        beside = beside + joint[part]
        # |sum - g|² = |sum|² - 2 sum·g + |g|²; |sum|² is the same for all.
        left = np.where(removed, own - 2 * beside, np.inf)
        back = int(np.argmin(left))
        removed[back] = False
        beside = beside - joint[back]
    return np.flatnonzero(~removed).tolist()


def counts_between(parts: int, multiple: int) -> list[int]:
    """Give how many of `parts` a layer may keep: multiples, and all of them.

    >>> counts_between(40, 16)
    [16, 32, 40]
    """
    step = min(multiple, parts)
    found = list(range(step, parts + 1, step))
    return found if found[-1] == parts else [*found, parts]
