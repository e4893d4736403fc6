"""Decoders with their cache: what PyTorch's exporter follows so that one graph reads and goes on.

The graph is given ``past_key_values.N.key`` and ``.value`` (batch, heads, past, size) of what it
has read, empty at first, and gives ``present.N.…`` with the new tokens behind them. Names and
shapes are those that Optimum writes and that transformers.js and ONNX Runtime GenAI read.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import torch

from edgecompress.errors import StageError
from edgecompress.surgery.decoder_kernels import Kernels
from edgecompress.surgery.dynamo_export import Traced

BATCH, PAST, NEW = 2, 5, 3
"""Sizes that are traced: no two the same, and none 0 or 1, which would be taken for constants."""
TOKENS = {0: "batch_size", 1: "sequence_length"}
TOTAL = {0: "batch_size", 1: "total_sequence_length"}
BEFORE = {0: "batch_size", 2: "past_sequence_length"}
AFTER = {0: "batch_size", 2: "total_sequence_length"}


def cached_form(module: Any) -> tuple[Any, Traced]:
    """Give a decoder in the form that is exported, and what the exporter follows through it.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        In evaluation mode; not changed.

    Raises
    ------
    StageError
        When the model keeps no keys and values, or others than attention does.
    """
    past = _past(module)
    layers = range(len(past) // 2)
    states = [f"{layer}.{kind}" for layer in layers for kind in ("key", "value")]
    tokens = torch.ones((BATCH, NEW), dtype=torch.int64)
    example = {
        "input_ids": tokens,
        "attention_mask": torch.ones((BATCH, PAST + NEW), dtype=torch.int64),
        "position_ids": torch.arange(PAST, PAST + NEW).repeat(BATCH, 1),
        "past_key_values": past,
    }
    inputs = [f"past_key_values.{state}" for state in states]
    outputs = [f"present.{state}" for state in states]
    axes = {"input_ids": TOKENS, "attention_mask": TOTAL, "position_ids": TOKENS}
    axes |= dict.fromkeys(inputs, BEFORE) | {"logits": TOKENS} | dict.fromkeys(outputs, AFTER)
    names = ("input_ids", "attention_mask", "position_ids", *inputs)
    made = copy.copy(module)
    made.__class__ = type(type(module).__name__, (type(module),), {"forward": _forward})
    made.kernels = None
    return made, Traced(example, axes, ("logits", *outputs), names)


def _past(module: Any) -> list[torch.Tensor]:
    tokens = torch.ones((BATCH, PAST), dtype=torch.int64)
    with torch.no_grad():
        found = module(input_ids=tokens, use_cache=True).get(_cache_name(module.forward))
    layers = getattr(found, "layers", None) or ()
    past = [each for layer in layers for each in (layer.keys, layer.values)]
    if not past or any(one is None or one.ndim != 4 or one.shape[2] != PAST for one in past):
        raise StageError(
            f"models of the type {module.config.model_type!r} keep something else than keys and "
            "values of attention, which cannot be exported with a cache here"
        )
    return past


def _cache_name(forward: Any) -> str:
    """Give what a model calls its cache: transformers 5.24 has another name for it."""
    taken = inspect.signature(forward).parameters
    return "cache" if "cache" in taken else "past_key_values"


def _forward(
    self: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    position_ids: torch.Tensor,
    past_key_values: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, ...]:
    """Give the logits, and keys and values of each layer in turn."""
    from transformers import DynamicCache

    forward = super(type(self), self).forward
    name = _cache_name(forward)
    pairs = list(zip(past_key_values[0::2], past_key_values[1::2], strict=True))
    kernels: Kernels | None = self.kernels
    cache = DynamicCache(pairs)
    if kernels is not None:
        kernels.begin(pairs, attention_mask)
        cache.update = lambda keys, values, *_, **__: (keys, values)
    found = forward(
        input_ids=input_ids,
        attention_mask=attention_mask,
        position_ids=position_ids,
        use_cache=True,
        return_dict=True,
        **{name: cache},
    )
    if kernels is not None:
        return (found.logits, *(each for pair in kernels.present for each in pair))
    present = [each for one in found[name].layers for each in (one.keys, one.values)]
    return (found.logits, *present)
