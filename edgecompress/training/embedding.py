"""Train only the rows of the word embedding that the training data uses.

A row that no training example uses has no gradient, ever: AdamW without decay leaves it as it is.
Keeping such rows out of the optimizer gives the same result (a multilingual vocabulary has most of
its rows unused) and saves its memory traffic, which on a CPU is a large part of a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from edgecompress.errors import StageError
from edgecompress.surgery.families import family_of, word_embedding, word_path
from edgecompress.surgery.sharing import rows_of_pieces
from edgecompress.surgery.sparsity import carry


class UsedRows(nn.Module):
    """A word embedding whose `weight` holds only the used rows; the others are frozen.

    Parameters
    ----------
    embedding : torch.nn.Embedding
        The whole matrix, shape (vocabulary, width).
    used : numpy.ndarray
        int64, ascending, shape (rows,): the ids to train.
    """

    def __init__(self, embedding: nn.Embedding, used: np.ndarray) -> None:
        super().__init__()
        full = embedding.weight.detach()
        ids = torch.as_tensor(used, dtype=torch.int64, device=full.device)
        place = torch.full((len(full),), -1, dtype=torch.int64, device=full.device)
        place[ids] = torch.arange(len(ids), device=full.device)
        self.ids = ids
        self.place = place
        self.full = full
        self.weight = nn.Parameter(full[ids].clone())
        padding = embedding.padding_idx
        self.padding = int(place[padding]) if padding is not None else -1

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Look up, shape (batch, length) → (batch, length, width)."""
        place = self.place[input_ids]
        padding = self.padding if self.padding >= 0 else None
        found = nn.functional.embedding(place.clamp(min=0), self.weight, padding_idx=padding)
        unused = place < 0
        if bool(unused.any()):
            rows = nn.functional.embedding(input_ids, self.full)
            found = torch.where(unused[..., None], rows, found)
        return found


@contextmanager
def only_used_rows(module: Any, used: np.ndarray | None, freeze: bool = False) -> Iterator[None]:
    """While inside, `module` trains only the used rows of its word embedding (or none).

    Where the embedding is a product, the rows are those of its table; what widens them is trained.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        Its word embedding is changed in place on leaving.
    used : numpy.ndarray or None
        int64: ids that occur in the training data; duplicates are fine. None: what it is trained on
        is no text, and it is trained whole.
    freeze : bool
        Train no row at all, nor positions and token types.
    """
    if used is None:
        if freeze:
            raise StageError("freeze_embeddings: the model reads no text; leave it out")
        yield
        return
    family = family_of(module.config)
    base = module.base_model
    original = word_embedding(module)
    if freeze:
        frozen = [p for p in base.get_submodule(family.embeddings).parameters() if p.requires_grad]
        for parameter in frozen:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)
        return
    head = module.get_output_embeddings()
    if head is not None and head.weight is original.weight:
        # The head that guesses hidden pieces has the same matrix and needs all of its rows.
        yield
        return
    path = word_path(module)
    rows = rows_of_pieces(base.get_submodule(family.words), np.unique(used))
    compact = UsedRows(original, np.unique(rows))
    carry(original, compact)
    base.set_submodule(path, compact)
    try:
        yield
    finally:
        with torch.no_grad():
            original.weight[compact.ids] = compact.weight
        base.set_submodule(path, original)
