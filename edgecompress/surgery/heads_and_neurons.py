"""Attention heads and feed-forward neurons taken out of a module for good.

The matrices become smaller; nothing is masked. Head h of a layer owns rows h·d … (h+1)·d of query,
key and value and the same columns of the output matrix (d is the head size); neuron n owns row n of
the first feed-forward matrix and column n of the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from edgecompress.errors import StageError
from edgecompress.surgery.families import Block, blocks


def keep_heads_and_neurons(
    module: Any, heads: Sequence[Sequence[int]], neurons: Sequence[Sequence[int]]
) -> None:
    """Keep only the named heads and neurons of every layer; changes `module`.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        A model of a supported family.
    heads, neurons : sequence of sequence of int
        For each layer the indices to keep, ascending; neither may be empty.

    Raises
    ------
    StageError
        When a layer would be left without heads or neurons, or an index does not exist.
    """
    found = list(blocks(module))
    for index, (block, kept_heads, kept_neurons) in enumerate(
        zip(found, heads, neurons, strict=True)
    ):
        _check(index, "heads", kept_heads, block.heads)
        _check(index, "neurons", kept_neurons, block.neurons)
        if len(kept_heads) < block.heads:
            _keep_heads(block, kept_heads)
        if len(kept_neurons) < block.neurons:
            rows = torch.as_tensor(kept_neurons)
            block.set_part("ffn_in", slice_linear(block.part("ffn_in"), rows, dim=0))
            block.set_part("ffn_out", slice_linear(block.part("ffn_out"), rows, dim=1))


def slice_linear(linear: nn.Linear, kept: torch.Tensor, dim: int) -> nn.Linear:
    """Give a smaller copy of a linear layer.

    Parameters
    ----------
    linear : torch.nn.Linear
        With a weight of shape (outputs, inputs).
    kept : torch.Tensor
        int64 indices, shape (kept,).
    dim : int
        0 keeps outputs (and their biases), 1 keeps inputs.
    """
    weight = linear.weight.detach().index_select(dim, kept).clone()
    bias = linear.bias
    smaller = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    smaller.weight = nn.Parameter(weight)
    if bias is not None:
        kept_bias = bias.detach().index_select(0, kept) if dim == 0 else bias.detach()
        smaller.bias = nn.Parameter(kept_bias.clone())
    smaller.train(linear.training)
    return smaller


def _keep_heads(block: Block, kept: Sequence[int]) -> None:
    size = block.head_size
    rows = (torch.as_tensor(kept)[:, None] * size + torch.arange(size)).flatten()
    for role in ("query", "key", "value"):
        block.set_part(role, slice_linear(block.part(role), rows, dim=0))
    block.set_part("output", slice_linear(block.part("output"), rows, dim=1))
    block.set_heads(len(kept))


def _check(layer: int, what: str, kept: Sequence[int], there: int) -> None:
    if not kept:
        raise StageError(f"layer {layer} would be left without {what}; remove the layer instead")
    if list(kept) != sorted(set(kept)) or kept[0] < 0 or kept[-1] >= there:
        raise StageError(f"layer {layer} has {there} {what}; cannot keep {list(kept)[:8]} …")
