"""An embedding with fewer rows than pieces: pieces that are alike look up the same row.

Dropping a piece breaks the texts that use it into smaller ones, which the model was never taught to
read there. Sharing leaves the tokenizer alone: a piece without a row of its own gives that of the
piece whose row was most like it, so that a rare name is read as another name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

BLOCK = 2048
"""Pieces that are compared with all rows at once: bounds memory at 2048 · rows · 4 bytes."""


class SharedEmbedding(nn.Module):
    """``table(place[ids])``.

    Parameters
    ----------
    table : torch.nn.Embedding
        The rows, shape (rows, width).
    place : torch.Tensor
        int32, shape (pieces,): the row of each piece. Saved with the weights, never trained.
    """

    place: torch.Tensor

    def __init__(self, table: nn.Embedding, place: torch.Tensor) -> None:
        super().__init__()
        self.table = table
        self.register_buffer("place", place.to(torch.int32))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Look up, int64 (…) → (…, width)."""
        return self.table(self.place[ids])

    @property
    def num_embeddings(self) -> int:
        """Number of pieces."""
        return len(self.place)

    @property
    def embedding_dim(self) -> int:
        """Width of a row."""
        return int(self.table.embedding_dim)

    @property
    def padding_idx(self) -> int | None:
        """As of `torch.nn.Embedding`, but of a row."""
        found: int | None = self.table.padding_idx
        return found

    @property
    def weight(self) -> torch.Tensor:
        """The rows of all pieces, gathered now: (pieces, width). It is no parameter."""
        return self.table.weight[self.place.long()]


def shared(module: nn.Module) -> dict[str, int]:
    """Give the number of rows of every shared embedding of a module, by its path."""
    return {
        path: int(part.table.num_embeddings)
        for path, part in module.named_modules()
        if isinstance(part, SharedEmbedding)
    }


def make_shared(module: nn.Module, path: str, rows: int) -> None:
    """Put a shared embedding without values in the place of a whole one.

    Raises
    ------
    ValueError
        When there is no embedding at `path`, or it has fewer rows than that.
    """
    try:
        old = module.get_submodule(path)
    except AttributeError:
        raise ValueError(f"shared names {path}, which this model has not") from None
    if not isinstance(old, nn.Embedding) or not 1 <= rows <= old.num_embeddings:
        raise ValueError(f"shared names {path}, which is no embedding of {rows} rows or more")
    table = nn.Embedding(rows, old.embedding_dim, device="meta")
    place = torch.zeros(old.num_embeddings, dtype=torch.int32)
    module.set_submodule(path, SharedEmbedding(table, place))


def share_rows(module: nn.Module, path: str, place: NDArray[np.int64], kept: Sequence[int]) -> None:
    """Keep the rows of `kept` (ascending ids) and give each piece one of them; changes `module`.

    Parameters
    ----------
    module : torch.nn.Module
    path : str
        Of the embedding, from `module`.
    place : int64 (pieces,)
        For each piece the number of its row among `kept`.
    kept : sequence of int
        Old rows by new row.
    """
    old = module.get_submodule(path)
    index = torch.as_tensor(list(kept), dtype=torch.int64)
    table = nn.Embedding(len(kept), int(old.embedding_dim), device="meta")
    table.weight = nn.Parameter(old.weight.detach()[index].clone())
    module.set_submodule(path, SharedEmbedding(table, torch.as_tensor(place)))


def rows_of_pieces(part: Any, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the rows that pieces look up in the innermost table of a word embedding `part`."""
    while not isinstance(part, nn.Embedding):
        if isinstance(part, SharedEmbedding):
            ids = part.place.cpu().numpy().astype(np.int64)[ids]
        part = part.table
    return ids


def nearest(
    rows: NDArray[Any], kept: NDArray[np.int64], groups: NDArray[np.int64], centre: NDArray[Any]
) -> NDArray[np.int64]:
    """Find for each piece the kept piece whose row points most in the same direction.

    Parameters
    ----------
    rows : float (pieces, width)
        The embedding.
    kept : int64 (kept,)
        Pieces that keep their rows.
    groups : int64 (pieces,)
        Only pieces of one group may share a row (word beginnings with word beginnings), where the
        group has a kept one.
    centre : float (width,)
        Taken from every row first: embeddings point away from 0 in a common direction, which would
        make all of them alike (Mu and Viswanath, 2018, "All-but-the-Top").

    Returns
    -------
    int64 (pieces,)
        Positions in `kept`; a kept piece has its own.
    """
    directions = (rows - centre).astype(np.float32)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
    place = np.full(len(rows), -1, np.int64)
    place[kept] = np.arange(len(kept))
    for group in np.unique(groups[place < 0]):
        wanted = np.flatnonzero((place < 0) & (groups == group))
        among = np.flatnonzero(groups[kept] == group)
        if not len(among):
            among = np.arange(len(kept))
        theirs = directions[kept[among]].T
        for first in range(0, len(wanted), BLOCK):
            some = wanted[first : first + BLOCK]
            place[some] = among[np.argmax(directions[some] @ theirs, axis=1)]
    return place
