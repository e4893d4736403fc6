"""Linear layers of other sizes: with some of their rows or columns, or without values."""

from __future__ import annotations

import torch
from torch import nn

from edgecompress.surgery.sparsity import carry


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
    carry(linear, smaller)
    return smaller


def resized(linear: nn.Linear, inputs: int | None = None, outputs: int | None = None) -> nn.Linear:
    """Give a linear layer of another size without values (on the meta device)."""
    return nn.Linear(
        inputs or linear.in_features,
        outputs or linear.out_features,
        linear.bias is not None,
        device="meta",
    )
