"""Decoders traced as ONNX Runtime's own kernels: grouped-query attention and RMS norms.

Attention becomes ``com.microsoft.GroupQueryAttention``, which keeps the cache and rotates queries
and keys by itself; norms are written so that ONNX Runtime makes ``SimplifiedLayerNormalization`` of
them when it loads the file. Whether a family computes what the kernels compute is not known from
its name: who exports compares the graph with PyTorch.
Source: ``docs/ContribOperators.md`` of ONNX Runtime.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from edgecompress.errors import StageError

NAME = "edgecompress_kernels"
HEAD, ROTATED = 8, 16
"""The kernel takes heads of a multiple of the first, and rotates those of a multiple of the second:
what it does not rotate is rotated in front of it."""


@dataclass
class Kernels:
    """What the attentions of one run of a model share.

    Attributes
    ----------
    past, present : list of (torch.Tensor, torch.Tensor)
        Keys and values of each layer, (batch, heads, tokens, size).
    lengths : torch.Tensor
        int32 (batch,): tokens that are read, without the last one.
    total : torch.Tensor
        int32 (): the longest of them.
    cosines, sines : torch.Tensor or None
        float (positions, size / 2): where the kernel rotates.
    """

    past: list[Any] = field(default_factory=list)
    present: list[Any] = field(default_factory=list)
    lengths: Any = None
    total: Any = None
    cosines: Any = None
    sines: Any = None

    def begin(self, past: list[Any], attention_mask: torch.Tensor) -> None:
        """Get ready for a run."""
        self.past, self.present = past, []
        self.lengths = (attention_mask.sum(1) - 1).to(torch.int32)
        self.total = torch.full((), attention_mask.shape[1], dtype=torch.int32)


@contextlib.contextmanager
def as_kernels(module: Any) -> Iterator[None]:
    """While inside, a decoder is traced with kernels in the place of its attentions and norms.

    Parameters
    ----------
    module : torch.nn.Module
        From `decoder_export.cached_form`; put back as it was.

    Raises
    ------
    StageError
        While it is traced, when its attention is of a kind that cannot be exchanged.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    found = Kernels()
    AttentionInterface.register(NAME, partial(_attention, found))
    AttentionMaskInterface.register(NAME, _mask)
    before = module.config._attn_implementation
    norms = [one for one in module.modules() if _is_norm(one)]
    try:
        with _without_rotation(module, found):
            module.config._attn_implementation = NAME
            for one in norms:
                one.forward = partial(_norm, one)
            module.kernels = found
            yield
    finally:
        module.kernels = None
        module.config._attn_implementation = before
        for one in norms:
            one.__dict__.pop("forward", None)


def _mask(*_: Any, attention_mask: Any = None, **__: Any) -> Any:
    """Give the mask as it is: the kernel is causal, and told how long each row is."""
    return attention_mask


def _attention(
    kernels: Kernels,
    module: Any,  # noqa: ARG001 - given to all attentions
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any = None,  # noqa: ARG001 - its sums are known
    scaling: float | None = None,
    **given: Any,
) -> tuple[torch.Tensor, None]:
    if given.get("sliding_window") or given.get("softcap") or given.get("s_aux") is not None:
        raise StageError("this attention has a window, a cap or a sink of its own")
    batch, heads, length, size = query.shape
    if size % HEAD:
        raise StageError(
            f"heads of a size of {size} are none that ONNX Runtime's kernel takes (multiples of "
            f"{HEAD}); leave `kernels` out of `export`"
        )
    few = key.shape[1]
    past = kernels.past[len(kernels.present)]
    flat = [one.transpose(1, 2).reshape(batch, length, -1) for one in (query, key, value)]
    rotates = kernels.cosines is not None
    attributes = {"num_heads": heads, "kv_num_heads": few, "do_rotary": int(rotates)}
    if scaling is not None:
        attributes["scale"] = float(scaling)
    kept = (batch, few, past[0].shape[2] + length, size)
    inputs = [*flat, *past, kernels.lengths, kernels.total]
    inputs += [kernels.cosines, kernels.sines] if rotates else []
    out, keys, values = torch.onnx.ops.symbolic_multi_out(
        "com.microsoft::GroupQueryAttention",
        inputs,
        attributes,
        dtypes=(query.dtype,) * 3,
        shapes=((batch, length, heads * size), kept, kept),
        version=1,
    )
    kernels.present.append((keys, values))
    return out.reshape(batch, length, heads, size), None


def _is_norm(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    return (
        type(module).__name__.endswith("RMSNorm")
        and weight is not None
        and weight.ndim == 1
        and _epsilon(module) is not None
    )


def _epsilon(module: Any) -> float | None:
    found: float | None = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    return found


def _norm(module: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    """Compute a norm as ONNX Runtime knows it: it divides by a root, and times no reciprocal."""
    squares = hidden_states.pow(2).mean(-1, keepdim=True)
    return hidden_states / torch.sqrt(squares + _epsilon(module)) * module.weight


@contextlib.contextmanager
def _without_rotation(module: Any, kernels: Kernels) -> Iterator[None]:
    """Leave the rotation of queries and keys to the kernel, where it rotates alike."""
    attention = next(
        (one for one in module.modules() if type(one).__name__.endswith("Attention")), None
    )
    rotary = next(
        (one for one in module.modules() if type(one).__name__.endswith("RotaryEmbedding")), None
    )
    home = sys.modules[type(attention).__module__] if attention is not None else None
    rotate = getattr(home, "apply_rotary_pos_emb", None)
    tables = _tables(module, rotary) if rotary is not None and rotate is not None else None
    if tables is None:
        yield
        return
    kernels.cosines, kernels.sines = tables
    home.apply_rotary_pos_emb = lambda queries, keys, *_, **__: (queries, keys)  # type: ignore[union-attr]
    try:
        yield
    finally:
        home.apply_rotary_pos_emb = rotate  # type: ignore[union-attr]


def _tables(module: Any, rotary: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Give cosines and sines of all positions; None where halves of a head are not turned alike."""
    count = module.config.max_position_embeddings
    places = torch.arange(count)[None]
    with torch.no_grad():
        both = rotary(torch.zeros(1, 1, 1), position_ids=places)
    if getattr(rotary, "rope_type", "default") in ("dynamic", "longrope"):
        return None  # angles that depend on how long the text is
    found = []
    for one in both:
        half = one.shape[-1] // 2
        size = getattr(module.config, "head_dim", None)
        if size is not None and one.shape[-1] != size:
            return None
        if one.shape[-1] % ROTATED:
            return None
        if not torch.equal(one[0, :, :half], one[0, :, half:]):
            return None
        found.append(one[0, :, :half].contiguous())
    return found[0], found[1]
