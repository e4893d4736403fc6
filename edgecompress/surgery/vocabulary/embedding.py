"""A model's rows for the pieces that stay: the word embedding and heads that score words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from edgecompress.errors import DataError, StageError
from edgecompress.surgery.families import family_of, word_embedding
from edgecompress.surgery.sharing import shared

ID_FIELDS = (
    *("pad_token_id", "bos_token_id", "eos_token_id", "unk_token_id", "cls_token_id"),
    *("sep_token_id", "mask_token_id", "decoder_start_token_id"),
)
"""Fields of a configuration that name a piece by its id."""


def named_ids(config: Any) -> dict[str, int]:
    """Give the ids that a configuration names, by field."""
    found = {name: getattr(config, name, None) for name in ID_FIELDS}
    return {name: int(value) for name, value in found.items() if isinstance(value, int)}


def keep_pieces(module: Any, kept: Sequence[int], mixed: torch.Tensor | None = None) -> None:
    """Keep only the named rows of the word embedding, in this order; changes `module`.

    Rows that no piece has (embeddings padded to a multiple) go with the others. An output layer
    that scores every piece, tied to the embedding or not, and its bias get the same rows. Where
    the padding id moves in a model that numbers positions from behind it (RoBERTa), the position
    embedding moves with it.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        A model of a supported family.
    kept : sequence of int
        Old ids by new id; -1 for a piece that is new.
    mixed : torch.Tensor, optional
        float32 (new, old), sparse: how much of each old row a new one is made of; without it, each
        is the old row.

    Raises
    ------
    DataError
        When the tokenizer has more pieces than the embedding rows.
    StageError
        When a piece that the configuration names would be lost.
    """
    if shared(module):
        raise StageError("the embedding's rows are shared: put vocabulary.trim before it")
    old = word_embedding(module)
    there = old.num_embeddings
    if max(kept) >= there:
        raise DataError(
            f"the tokenizer has an id {max(kept)} but the model's embedding only "
            f"{there} rows; they do not belong together"
        )
    place = {before: after for after, before in enumerate(kept)}
    config = module.config
    moved = {}
    for name, number in named_ids(config).items():
        if number not in place and number < there:
            raise StageError(f"the model's {name} is {number}, which is not kept")
        moved[name] = place.get(number)
    rows = torch.as_tensor(list(kept), dtype=torch.int64)
    _swap(module, old.weight, rows, mixed)
    for part in module.modules():
        _resize(part, rows, there)
    padding = old.padding_idx
    old.padding_idx = None if padding is None else place.get(padding)
    pad_before = getattr(config, "pad_token_id", None)
    for name, after in moved.items():
        setattr(config, name, after)
    config.vocab_size = len(kept)
    for part in module.modules():  # heads and losses that remember it
        if isinstance(getattr(part, "vocab_size", None), int):
            part.vocab_size = len(kept)
    if family_of(config).position_offset and pad_before is not None:
        _move_positions(module, pad_before, config.pad_token_id)


def _swap(
    module: Any, weight: nn.Parameter, rows: torch.Tensor, mixed: torch.Tensor | None
) -> None:
    """Cut the embedding's matrix, and wherever it is shared, and the output layer's bias."""
    there = len(weight)
    output = module.get_output_embeddings()
    scored = [getattr(output, name, None) for name in ("weight", "bias")]
    cut = [weight, *(one for one in scored if one is not None and len(one) == there)]

    def made(old: torch.Tensor) -> torch.Tensor:
        if mixed is None:
            return old.index_select(0, rows).clone()
        table = old.float().view(there, -1)
        return torch.sparse.mm(mixed, table).view(len(rows), *old.shape[1:]).to(old.dtype)

    smaller = {
        id(old): nn.Parameter(made(old.detach()), requires_grad=old.requires_grad) for old in cut
    }
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None and id(parameter) in smaller:
                part._parameters[name] = smaller[id(parameter)]


def _resize(part: nn.Module, rows: torch.Tensor, there: int) -> None:
    """Tell embeddings and linear layers whose matrices were cut how many rows they have."""
    weight = getattr(part, "weight", None)
    if not isinstance(weight, nn.Parameter) or len(weight) != len(rows):
        return
    if isinstance(part, nn.Embedding) and part.num_embeddings == there:
        part.num_embeddings = len(rows)
    if isinstance(part, nn.Linear) and part.out_features == there:
        part.out_features = len(rows)


def _move_positions(module: Any, before: int, after: int) -> None:
    """Drop the first positions, so that the first token keeps its position's row."""
    if before == after:
        return
    embeddings = module.base_model.get_submodule(family_of(module.config).embeddings)
    old = embeddings.position_embeddings
    fewer = before - after
    table = nn.Embedding(old.num_embeddings - fewer, old.embedding_dim, padding_idx=after)
    table.weight = nn.Parameter(old.weight.detach()[fewer:].clone())
    embeddings.position_embeddings = table
    embeddings.padding_idx = after
    module.config.max_position_embeddings -= fewer
    for name in ("position_ids", "token_type_ids"):
        buffer = getattr(embeddings, name, None)
        if isinstance(buffer, torch.Tensor):
            setattr(embeddings, name, buffer[:, : table.num_embeddings])
