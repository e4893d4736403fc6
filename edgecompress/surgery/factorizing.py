"""The best low-rank product in the place of a matrix, and the rank that each matrix gets.

A truncated singular value decomposition loses least of the matrix (Eckart & Young, 1936); what
should lose least is what the matrix gives. With the second moments C of its inputs the error is
weighed by C^(1/2), and the best product is again a truncation, of the spectrum of W·C·Wᵀ.

Sources: Chen et al., 2021, "DRONE: data-aware low-rank compression for large NLP models"; Yu & Wu,
2023, "Compressing transformers: features are low-rank, but weights are not!" (the spectrum of the
centred outputs, with the bias taking up their mean).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from edgecompress.surgery.low_rank import LowRankEmbedding, LowRankLinear


@dataclass(frozen=True, eq=False)
class Moments:
    """What comes into a linear layer.

    Attributes
    ----------
    mean : torch.Tensor
        float64 (in,).
    second : torch.Tensor
        float64 (in, in): the mean of x·xᵀ, not centred.
    """

    mean: torch.Tensor
    second: torch.Tensor


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A matrix' outputs by directions, those that carry most of them first.

    Attributes
    ----------
    basis : torch.Tensor
        float64 (out, directions), orthonormal columns.
    energies : numpy.ndarray
        float64 (directions,), descending: the mean square along each direction.
    """

    basis: torch.Tensor
    energies: np.ndarray

    def kept(self, rank: int) -> float:
        """Share of the energy in the first `rank` directions."""
        total = float(self.energies.sum())
        return float(self.energies[:rank].sum()) / total if total else 1.0


def linear_spectrum(linear: nn.Linear, moments: Moments | None = None) -> Spectrum:
    """Give the spectrum of a linear layer's outputs: of its matrix alone without `moments`.

    Where the layer has a bias, outputs are centred: the bias takes up what is lost of their mean.
    """
    weight = linear.weight.detach().double()
    if moments is None:
        return _spectrum(weight)
    second = moments.second
    if linear.bias is not None:
        second = second - torch.outer(moments.mean, moments.mean)
    values, vectors = torch.linalg.eigh(second)
    return _spectrum(weight @ (vectors * values.clamp(min=0).sqrt()))


def linear_product(
    linear: nn.Linear, spectrum: Spectrum, rank: int, moments: Moments | None = None
) -> LowRankLinear:
    """Give the product of rank `rank` in the place of a linear layer; it is not changed."""
    weight = linear.weight.detach().double()
    second = spectrum.basis[:, :rank]
    first = second.T @ weight
    bias = linear.bias
    if bias is not None and moments is not None:
        lost = (weight - second @ first) @ moments.mean
        bias = (bias.detach().double() + lost).to(bias.dtype)
    dtype = linear.weight.dtype
    second, first = _balanced(second, first)
    made = LowRankLinear.of(second.to(dtype), first.to(dtype), bias)
    made.train(linear.training)
    return made


def embedding_spectrum(embedding: nn.Embedding, counts: np.ndarray | None = None) -> Spectrum:
    """Give the spectrum of an embedding's rows.

    Parameters
    ----------
    embedding : torch.nn.Embedding
        Shape (rows, width).
    counts : numpy.ndarray, optional
        float64 (rows,): how often each row is looked up. A row that never is counts as once,
        because other texts may hold it.
    """
    rows = embedding.weight.detach().double().T
    if counts is not None:
        rows = rows * torch.as_tensor(counts).clamp(min=1.0).sqrt()
    return _spectrum(rows)


def embedding_product(embedding: nn.Embedding, spectrum: Spectrum, rank: int) -> LowRankEmbedding:
    """Give the product of rank `rank` in the place of an embedding; it is not changed."""
    projection = spectrum.basis[:, :rank]
    table = embedding.weight.detach().double() @ projection
    dtype = embedding.weight.dtype
    made = LowRankEmbedding.of(table.to(dtype), projection.to(dtype), embedding.padding_idx)
    made.train(embedding.training)
    return made


def largest_rank(inputs: int, outputs: int, multiple: int) -> int:
    """Give the largest multiple of `multiple` whose product has fewer weights than the matrix."""
    most = (inputs * outputs - 1) // (inputs + outputs)
    return most - most % multiple


def rank_for_energy(energies: np.ndarray, share: float, multiple: int) -> int:
    """Give the smallest multiple of `multiple` that keeps a share of the energy."""
    sums = np.cumsum(energies)
    needed = int(np.searchsorted(sums, share * sums[-1] * (1 - 1e-12))) + 1
    return -(-needed // multiple) * multiple


def ranks_for_budget(
    shapes: Sequence[tuple[int, int]],
    energies: Sequence[np.ndarray],
    budget: float,
    multiple: int,
) -> list[int | None]:
    """Divide a budget of weights among matrices by what each step of rank keeps of the energy.

    Each matrix may have any rank that makes it smaller, or stay whole. Steps are taken where they
    keep most energy per weight (energies relative to their matrix), along the upper convex hull of
    each matrix' choices, so that a matrix whose spectrum is flat stays whole or gets very little.

    Parameters
    ----------
    shapes : sequence of (int, int)
        Inputs and outputs (or width and rows) of each matrix.
    energies : sequence of numpy.ndarray
        Of each spectrum.
    budget : float
        Share of all weights to keep, in (0, 1).
    multiple : int
        Ranks are multiples of this, and the least rank is one of it.

    Returns
    -------
    list of int or None
        Rank of each matrix; None where it stays whole.
    """
    allowed = budget * sum(inputs * outputs for inputs, outputs in shapes)
    hulls = [_hull(*shape, e, multiple) for shape, e in zip(shapes, energies, strict=True)]
    steps = sorted(
        (-(later[1] - earlier[1]) / (later[0] - earlier[0]), matrix, place)
        for matrix, hull in enumerate(hulls)
        for place, (earlier, later) in enumerate(pairwise(hull), start=1)
    )
    chosen = [0] * len(hulls)
    spent = sum(hull[0][0] for hull in hulls)
    for _, matrix, place in steps:
        hull = hulls[matrix]
        cost = hull[place][0] - hull[chosen[matrix]][0]
        if chosen[matrix] == place - 1 and spent + cost <= allowed:
            chosen[matrix], spent = place, spent + cost
    return [hull[place][2] for hull, place in zip(hulls, chosen, strict=True)]


RankChoice = tuple[int, float, int | None]
"""Weights of a choice, the share of the energy that it keeps, and its rank (None: whole)."""


def _hull(inputs: int, outputs: int, energies: np.ndarray, multiple: int) -> list[RankChoice]:
    sums = np.cumsum(energies) / max(float(energies.sum()), 1e-300)
    most = min(largest_rank(inputs, outputs, multiple), len(energies))
    choices: list[RankChoice] = [
        (rank * (inputs + outputs), float(sums[rank - 1]), rank)
        for rank in range(multiple, most + 1, multiple)
    ]
    choices.append((inputs * outputs, 1.0, None))
    hull: list[RankChoice] = []
    for choice in choices:
        while len(hull) > 1 and _below(hull[-2], hull[-1], choice):
            hull.pop()
        hull.append(choice)
    return hull


def _below(first: RankChoice, middle: RankChoice, last: RankChoice) -> bool:
    """Whether `middle` lies on or below the line from `first` to `last`."""
    return (middle[1] - first[1]) * (last[0] - first[0]) <= (last[1] - first[1]) * (
        middle[0] - first[0]
    )


def _spectrum(matrix: torch.Tensor) -> Spectrum:
    """Left singular vectors of a float64 matrix (out, n), with the squared singular values."""
    outputs, count = matrix.shape
    if outputs <= count:
        values, vectors = torch.linalg.eigh(matrix @ matrix.T)
        basis = vectors.flip(1)
    else:
        # The smaller Gram matrix; QR makes the columns orthonormal without mixing later ones into
        # earlier ones, so that every leading part spans what it should.
        values, vectors = torch.linalg.eigh(matrix.T @ matrix)
        basis = torch.linalg.qr(matrix @ vectors.flip(1))[0]
    return Spectrum(basis, values.flip(0).clamp(min=0).numpy())


def _balanced(second: torch.Tensor, first: torch.Tensor) -> tuple[Any, Any]:
    """Scale each inner direction so that both factors have the same norm along it.

    One learning rate and one int8 scale then suit both.
    """
    sizes = first.norm(dim=1).clamp(min=1e-12).sqrt()
    return second * sizes, first / sizes[:, None]
