"""Encoders traced with ONNX Runtime's own kernel of attention, which keeps no table of all scores.

Over the 1,500 places of a window of speech that table is 54 MB a layer, written and read again;
``com.microsoft.MultiHeadAttention`` goes through it in pieces that stay in the cache. Whether it
gives the same numbers is found out by who exports, who compares the graph with PyTorch.
Source: ``docs/ContribOperators.md`` of ONNX Runtime.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from edgecompress.errors import StageError

NAME = "edgecompress_encoder_kernels"


@contextlib.contextmanager
def as_kernels(module: Any) -> Iterator[None]:
    """While inside, an encoder is traced with kernels in the place of its attentions.

    Parameters
    ----------
    module : torch.nn.Module
        With a configuration of transformers; its attentions read all of a row, without a mask.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attention)
    before = module.config._attn_implementation
    try:
        module.config._attn_implementation = NAME
        yield
    finally:
        module.config._attn_implementation = before


def _attention(
    module: Any,  # noqa: ARG001 - given to all attentions
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any = None,
    scaling: float | None = None,
    **given: Any,
) -> tuple[torch.Tensor, None]:
    if attention_mask is not None or given.get("softcap") or key.shape[1] != query.shape[1]:
        raise StageError("this attention has a mask, a cap or fewer heads of keys")
    batch, heads, length, size = query.shape
    flat = [
        one.transpose(1, 2).reshape(batch, one.shape[2], heads * size)
        for one in (query, key, value)
    ]
    out = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        flat,
        {"num_heads": heads, "scale": float(size**-0.5 if scaling is None else scaling)},
        dtype=query.dtype,
        shape=(batch, length, heads * size),
        version=1,
    )
    return out.reshape(batch, length, heads, size), None
