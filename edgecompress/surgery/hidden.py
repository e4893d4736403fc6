"""Channels of the hidden states taken out of a module for good.

The hidden states of a transformer are one stream that every block reads and adds to. A channel of
it is one row or column of everything that touches it: embeddings, normalizations, the inputs of
query, key, value and the first feed-forward matrix, the outputs of the other two, and the input of
the head. `config.hidden_size` stays as it was, because transformers asks that the number of heads
divides it; the true width is written into ``surgery.json`` (`surgery.model`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from edgecompress.errors import DataError, StageError
from edgecompress.surgery.families import blocks, family_of
from edgecompress.surgery.linear import slice_linear
from edgecompress.surgery.low_rank import LowRankEmbedding
from edgecompress.surgery.tying import shared_names, tie

WRITES = ("output", "ffn_out")
"""The parts of a block whose outputs are added to the hidden states; the others read them."""


def hidden_size(module: Any) -> int:
    """Give the width of the hidden states now; `config.hidden_size` is the one before surgery."""
    return int(next(blocks(module)).linear("ffn_out").out_features)


def is_norm(part: nn.Module, width: int) -> bool:
    """Tell whether a module normalizes states of this width.

    By mean and deviation, or by the root mean square (Zhang & Sennrich, 2019), for which each
    architecture has a class of its own.
    """
    if isinstance(part, nn.LayerNorm):
        return tuple(part.normalized_shape) == (width,)
    return type(part).__name__.endswith("RMSNorm") and tuple(part.weight.shape) == (width,)


def hidden_norms(module: Any) -> list[Any]:
    """Give the normalizations of the hidden states, in the order of the module's definition."""
    width = hidden_size(module)
    base = module.base_model
    outside: set[int] = set()
    if _widening(base):
        outside = {id(part) for part in _embeddings(base).modules()}
    return [part for part in base.modules() if is_norm(part, width) and id(part) not in outside]


def keep_hidden(module: Any, kept: Sequence[int]) -> None:
    """Keep only the named channels of the hidden states; changes `module`.

    Works on the meta device, too.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        A model of a supported family, none of whose parts is a product of two matrices.
    kept : sequence of int
        Ascending channels, at least one.

    Raises
    ------
    StageError
        When `kept` is empty, unsorted or names a channel that does not exist, or a part is a
        product of two matrices.
    DataError
        When the model holds something of its hidden width that is not known.
    """
    width = hidden_size(module)
    if not kept:
        raise StageError("a model needs at least one hidden channel")
    if list(kept) != sorted(set(kept)) or kept[0] < 0 or kept[-1] >= width:
        raise StageError(f"the model has {width} hidden channels; cannot keep {list(kept)[:8]} …")
    index = torch.as_tensor(list(kept), device=next(module.parameters()).device)
    base = module.base_model
    norms = hidden_norms(module)
    head = reader(module)
    tied = shared_names(module)
    for block in blocks(module):
        for role in block.family.roles:
            dim = 0 if role in WRITES else 1
            block.set_part(role, slice_linear(block.part(role), index, dim=dim))
    for norm in norms:
        _slice_norm(norm, index)
    _slice_embeddings(base, width, index)
    path = next(name for name, part in module.named_modules() if part is head)
    module.set_submodule(path, slice_linear(head, index, dim=1))
    tie(module, tied)


def reader(module: Any) -> nn.Linear:
    """Give the first linear layer behind the blocks: what reads the last hidden states.

    Raises
    ------
    DataError
        When it is not found.
    """
    pieces = getattr(module, "lm_head", None)
    if isinstance(pieces, nn.Linear):  # decoders
        return pieces
    pooler = getattr(module.base_model, "pooler", None)
    if isinstance(pooler, nn.Linear):  # ALBERT
        return pooler
    head = getattr(module, "head", None)  # ModernBERT
    classifier = getattr(module, "classifier", None)
    for holder, name in ((pooler, "dense"), (head, "dense"), (module, "pre_classifier")):
        found = getattr(holder, name, None)
        if isinstance(found, nn.Linear):
            return found
    if isinstance(classifier, nn.Linear):
        return classifier
    found = getattr(classifier, "dense", None)
    if isinstance(found, nn.Linear):
        return found
    raise DataError(f"the head of {type(module).__name__} is not known; prune no hidden channels")


def _embeddings(base: Any) -> nn.Module:
    found: nn.Module = base.get_submodule(family_of(base.config).embeddings)
    return found


def _widening(base: Any) -> str:
    """Give the path of the matrix that widens narrow embeddings; empty where there is none."""
    paths = {path for path, _ in base.named_modules()}
    for path in ("embeddings_project", "encoder.embedding_hidden_mapping_in"):  # ELECTRA, ALBERT
        if path in paths:
            return path
    return ""


def _slice_embeddings(base: Any, width: int, index: torch.Tensor) -> None:
    """Slice what the embeddings add up: tables and patches, or the matrix that widens them."""
    path = _widening(base)
    if path:
        base.set_submodule(path, slice_linear(base.get_submodule(path), index, dim=0))
        return
    for part in _embeddings(base).modules():
        if isinstance(part, LowRankEmbedding):
            raise StageError(
                "the embedding is a product of two matrices; put `factorize` after the stages "
                "that prune"
            )
        if isinstance(part, nn.Embedding) and part.embedding_dim == width:
            weight = part.weight.detach().index_select(1, index).clone()
            part.weight = nn.Parameter(weight)
            part.embedding_dim = len(index)
        if isinstance(part, nn.Conv2d) and part.out_channels == width:  # patches of an image
            for name, value in [*part.named_parameters(recurse=False)]:
                setattr(part, name, nn.Parameter(value.detach().index_select(0, index).clone()))
            part.out_channels = len(index)
        for name, value in [*part.named_parameters(recurse=False)]:
            if value.ndim == 3 and value.shape[-1] == width:  # places and tokens of a ViT
                setattr(part, name, nn.Parameter(value.detach().index_select(2, index).clone()))


def _slice_norm(norm: Any, index: torch.Tensor) -> None:
    if isinstance(norm, nn.LayerNorm):
        norm.normalized_shape = (len(index),)
    for name in ("weight", "bias"):
        value = getattr(norm, name, None)
        if value is not None:
            setattr(norm, name, nn.Parameter(value.detach().index_select(0, index).clone()))
