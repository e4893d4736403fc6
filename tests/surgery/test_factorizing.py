"""The best product of a rank, and the rank that each matrix gets."""

import numpy as np
import pytest
import torch
from torch import nn

from edgecompress.surgery.factorizing import (
    Moments,
    embedding_product,
    embedding_spectrum,
    largest_rank,
    linear_product,
    linear_spectrum,
    rank_for_energy,
    ranks_for_budget,
)


def inputs(width, count=400, seed=0):
    """Correlated inputs with a mean: a few directions carry most of them."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator) * torch.logspace(0, -2, width)
    return torch.randn(count, width, generator=generator) @ mixing.T + 0.5


def moments(x):
    x = x.double()
    return Moments(x.mean(0), x.T @ x / len(x))


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (24, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_full_rank_is_the_same_layer(shape, bias):
    torch.manual_seed(0)
    linear = nn.Linear(*shape, bias=bias)
    x = inputs(shape[0])
    for known in (None, moments(x)):
        product = linear_product(linear, linear_spectrum(linear, known), min(shape), known)
        torch.testing.assert_close(product(x), linear(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_weighing_by_the_inputs_loses_less_of_the_outputs(shape, bias):
    torch.manual_seed(0)
    linear = nn.Linear(*shape, bias=bias)
    x = inputs(shape[0])
    known = moments(x)
    for rank in (2, 6, 12):
        plain = linear_product(linear, linear_spectrum(linear), rank)
        spectrum = linear_spectrum(linear, known)
        weighed = linear_product(linear, spectrum, rank, known)
        error = (weighed(x) - linear(x)).square().sum(1).mean()
        assert error < 0.8 * (plain(x) - linear(x)).square().sum(1).mean()
        # What the spectrum promises is what is lost.
        assert error.item() == pytest.approx(spectrum.energies[rank:].sum(), rel=1e-3)
        # No other product of this rank loses less of the outputs: those of a regression.
        centred = (x - x.mean(0)) @ linear.weight.T if bias else x @ linear.weight.T
        best = torch.linalg.svdvals(centred.double())[rank:].square().sum() / len(x)
        assert error.item() == pytest.approx(best.item(), rel=1e-3)


def test_without_inputs_it_is_the_singular_value_decomposition():
    torch.manual_seed(0)
    linear = nn.Linear(20, 30)
    spectrum = linear_spectrum(linear)
    values = torch.linalg.svdvals(linear.weight.double())
    np.testing.assert_allclose(spectrum.energies, values.square().detach(), rtol=1e-6)
    product = linear_product(linear, spectrum, 7)
    lost = (product.weight - linear.weight).double().square().sum().item()
    assert lost == pytest.approx(values[7:].square().sum().item(), rel=1e-4)
    assert torch.equal(product.bias, linear.bias)
    sizes = product.first.weight.norm(dim=1), product.second.weight.norm(dim=0)
    torch.testing.assert_close(*sizes)


def test_frequent_rows_lose_least():
    torch.manual_seed(0)
    embedding = nn.Embedding(60, 16, padding_idx=0)
    counts = np.zeros(60)
    counts[1:6] = 1000
    plain = embedding_product(embedding, embedding_spectrum(embedding), 6)
    weighed = embedding_product(embedding, embedding_spectrum(embedding, counts), 6)
    assert weighed.padding_idx == 0

    def lost(product, ids):
        return (product(ids) - embedding(ids)).square().sum().item()

    often, seldom = torch.arange(1, 6), torch.arange(6, 60)
    assert lost(weighed, often) < 0.05 * lost(plain, often)
    assert lost(weighed, seldom) < 2 * lost(plain, seldom)
    whole = embedding_product(embedding, embedding_spectrum(embedding, counts), 16)
    torch.testing.assert_close(whole(often), embedding(often), rtol=1e-4, atol=1e-5)


def test_ranks():
    assert largest_rank(384, 384, 16) == 176
    assert largest_rank(32, 32, 16) == 0
    assert largest_rank(384, 1536, 16) == 304
    assert 304 * (384 + 1536) < 384 * 1536 <= 320 * (384 + 1536)
    energies = np.array([4.0, 3.0, 2.0, 1.0])
    assert [rank_for_energy(energies, share, 1) for share in (0.3, 0.4, 0.5, 0.7, 0.99)] == [
        1,
        1,
        2,
        2,
        4,
    ]
    assert rank_for_energy(energies, 0.5, 16) == 16


def test_a_budget_goes_where_it_keeps_most():
    steep, flat = 0.5 ** np.arange(64), np.ones(64)
    shapes = [(64, 64)] * 3
    ranks = ranks_for_budget(shapes, [steep, steep * 100, flat], 0.6, 4)
    # A scale says nothing; a flat spectrum pays only when it is whole.
    assert ranks[0] == ranks[1]
    assert ranks[2] is None
    spent = sum(64 * 64 if rank is None else rank * 128 for rank in ranks)
    assert spent <= 0.6 * 3 * 64 * 64
    assert ranks_for_budget(shapes, [steep, steep, flat], 0.1, 4)[2] == 4
    kept = [
        sum(64 * 64 if rank is None else rank * 128 for rank in found)
        for found in (ranks_for_budget(shapes, [steep, steep, flat], b, 4) for b in (0.2, 0.4, 0.9))
    ]
    assert kept == sorted(kept)
