"""A matrix as the product of two smaller ones: linear layers and embeddings of low rank.

They take the place of `torch.nn.Linear` and `torch.nn.Embedding` in a module. Each is made of the
plain layers, so that exporters and quantizers see two matrices (and a table) that they know.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class LowRankLinear(nn.Module):
    """``second(first(x))``: a linear layer whose matrix has rank `rank` and is stored as a product.

    Parameters
    ----------
    in_features, out_features : int
        As of the layer that it replaces.
    rank : int
        Inner width; it pays where ``rank · (in + out) < in · out``.
    bias : bool
        Of the second matrix; the first has none.
    device : str or torch.device, optional
        ``meta`` makes it without values.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rank: int,
        bias: bool = True,
        device: Any = None,
    ) -> None:
        super().__init__()
        self.first = nn.Linear(in_features, rank, bias=False, device=device)
        self.second = nn.Linear(rank, out_features, bias=bias, device=device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply, (…, in) → (…, out)."""
        return self.second(self.first(x))

    @property
    def in_features(self) -> int:
        """Width of the input."""
        return int(self.first.in_features)

    @property
    def out_features(self) -> int:
        """Width of the output."""
        return int(self.second.out_features)

    @property
    def rank(self) -> int:
        """Inner width."""
        return int(self.first.out_features)

    @property
    def weight(self) -> torch.Tensor:
        """The product, computed now: (out, in). It is no parameter and cannot be set."""
        return self.second.weight @ self.first.weight

    @property
    def bias(self) -> torch.Tensor | None:
        """The bias, (out,), or None."""
        found: torch.Tensor | None = self.second.bias
        return found

    @classmethod
    def of(cls, second: torch.Tensor, first: torch.Tensor, bias: Any = None) -> LowRankLinear:
        """Make one from matrices (out, rank) and (rank, in), and a bias (out,) or None."""
        made = cls(first.shape[1], second.shape[0], first.shape[0], bias is not None, "meta")
        made.first.weight = nn.Parameter(first.detach().clone())
        made.second.weight = nn.Parameter(second.detach().clone())
        if bias is not None:
            made.second.bias = nn.Parameter(bias.detach().clone())
        return made


class LowRankEmbedding(nn.Module):
    """``projection(table(ids))``: a narrow table of rows and the matrix that widens them.

    Parameters
    ----------
    num_embeddings, embedding_dim : int
        Rows, and the width that comes out.
    rank : int
        Width of a stored row.
    padding_idx : int or None
        As of `torch.nn.Embedding`: this row gets no gradient.
    device : str or torch.device, optional
        ``meta`` makes it without values.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        rank: int,
        padding_idx: int | None = None,
        device: Any = None,
    ) -> None:
        super().__init__()
        self.table = nn.Embedding(num_embeddings, rank, padding_idx=padding_idx, device=device)
        self.projection = nn.Linear(rank, embedding_dim, bias=False, device=device)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Look up, int64 (…) → (…, embedding_dim)."""
        return self.projection(self.table(ids))

    @property
    def num_embeddings(self) -> int:
        """Number of rows."""
        return int(self.table.num_embeddings)

    @property
    def embedding_dim(self) -> int:
        """Width that comes out."""
        return int(self.projection.out_features)

    @property
    def padding_idx(self) -> int | None:
        """The row that gets no gradient."""
        found: int | None = self.table.padding_idx
        return found

    @property
    def rank(self) -> int:
        """Width of a stored row."""
        return int(self.projection.in_features)

    @property
    def weight(self) -> torch.Tensor:
        """The product, computed now: (rows, embedding_dim). It is no parameter."""
        return self.table.weight @ self.projection.weight.T

    @classmethod
    def of(
        cls, table: torch.Tensor, projection: torch.Tensor, padding_idx: int | None = None
    ) -> LowRankEmbedding:
        """Make one from a table (rows, rank) and a matrix (embedding_dim, rank)."""
        made = cls(table.shape[0], projection.shape[0], table.shape[1], padding_idx, "meta")
        made.table.weight = nn.Parameter(table.detach().clone())
        made.projection.weight = nn.Parameter(projection.detach().clone())
        return made


LowRank = LowRankLinear | LowRankEmbedding


def ranks(module: nn.Module) -> dict[str, int]:
    """Give the rank of every low-rank part of a module, by its path."""
    return {
        path: part.rank
        for path, part in module.named_modules()
        if isinstance(part, LowRankLinear | LowRankEmbedding)
    }


def make_low_rank(module: nn.Module, path: str, rank: int) -> None:
    """Put a low-rank part without values (on the meta device) in the place of a whole one.

    Raises
    ------
    ValueError
        When there is no linear layer or embedding at `path`, or `rank` is below 1.
    """
    try:
        old = module.get_submodule(path)
    except AttributeError:
        raise ValueError(f"ranks names {path}, which this model has not") from None
    if rank < 1:
        raise ValueError(f"ranks gives {path} the rank {rank}")
    new: LowRank
    if isinstance(old, nn.Embedding):
        new = LowRankEmbedding(
            old.num_embeddings, old.embedding_dim, rank, old.padding_idx, device="meta"
        )
    elif isinstance(old, nn.Linear):
        has_bias = old.bias is not None
        new = LowRankLinear(old.in_features, old.out_features, rank, has_bias, device="meta")
    else:
        raise ValueError(f"ranks names {path}, which is no linear layer or embedding")
    module.set_submodule(path, new)
