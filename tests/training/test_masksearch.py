"""The mask search: the bound always holds, nothing better fits, and effects add up."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecompress.errors import StageError
from edgecompress.training.masksearch import choices, cost, counts_between, rearrange, search

LAYERS = st.lists(st.lists(st.floats(0, 100), min_size=1, max_size=5), min_size=1, max_size=4)


def _layers(scores, seed):
    chance = np.random.default_rng(seed)
    found = []
    for layer in scores:
        counts = range(1, len(layer) + 1)
        rising = np.cumsum(chance.random(len(layer)) * (chance.random(len(layer)) > 0.3))
        found.append(choices(np.array(layer), counts, 0.1 + rising))
    return found


@settings(max_examples=60, deadline=None)
@given(LAYERS, st.integers(0, 10**6), st.floats(0, 1))
def test_the_bound_holds_and_nothing_better_fits_by_much(scores, seed, share):
    layers = _layers(scores, seed)
    least = sum(layer.costs.min() for layer in layers)
    most = sum(layer.costs[-1] for layer in layers)
    bound = least + share * (most - least)
    chosen = search(layers, bound)
    assert cost(layers, chosen) <= bound * (1 + 1e-9)

    def lost(counts):
        pairs = zip(layers, counts, strict=True)
        return sum(layer.losses[list(layer.counts).index(c)] for layer, c in pairs)

    # Costs are rounded up to bins: what fits with a thousandth to spare must not be missed.
    tight = least + (bound - least) * (1 - 1e-3)
    every = itertools.product(*(layer.counts for layer in layers))
    best = min((lost(c) for c in every if cost(layers, c) <= tight), default=np.inf)
    assert lost(chosen) <= best + 1e-6


def test_a_plateau_costs_nothing_so_it_is_used():
    scores = np.arange(1.0, 9.0)
    layer = choices(scores, [2, 4, 6, 8], [1.0, 2.0, 2.0, 4.0])
    assert search([layer], 2.0) == [6]


def test_what_cannot_be_met_is_refused():
    layer = choices(np.ones(4), [2, 4], [3.0, 5.0])
    with pytest.raises(StageError, match="the least possible is 6, more than 5"):
        search([layer, layer], 5.0)
    assert search([layer, layer], 6.0) == [2, 2]


def test_parts_that_cancel_leave_together():
    """The two least parts add up; the least and its opposite do not."""
    small, large = np.random.default_rng(0).standard_normal((2, 50))
    gradients = np.stack([small, small, -1.1 * small, 3 * large], axis=1)
    assert sorted(np.argsort(-np.square(gradients).sum(0))[:2]) == [2, 3]
    assert rearrange(gradients, 2) in ([0, 3], [1, 3])


@pytest.mark.parametrize("keep", [1, 3, 7, 8])
def test_rearranging_never_hurts(keep):
    chance = np.random.default_rng(keep)
    gradients = chance.standard_normal((40, 8)) @ chance.standard_normal((8, 8))
    kept = rearrange(gradients, keep)
    assert len(kept) == keep
    assert kept == sorted(set(kept))

    def joint(kept):
        gone = [part for part in range(8) if part not in kept]
        return np.square(gradients[:, gone].sum(1)).sum()

    diagonal = sorted(np.argsort(-np.square(gradients).sum(0))[:keep])
    assert joint(kept) <= joint(diagonal) + 1e-9


def test_counts():
    assert counts_between(40, 16) == [16, 32, 40]
    assert counts_between(8, 16) == [8]
    assert counts_between(4, 1) == [1, 2, 3, 4]
