"""The parts of a model that writes a text for a text: T5, BART, Marian and their like.

What makes keys and values of the encoder's states for the decoder's cross attention is found by
running the decoder for a token and reading its cache, so that no model is described here.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

LENGTHS = (7, 5, 3)
"""Of a source, a cache and new tokens: no two the same, which would be taken for one size."""
BATCH = 2


class TextEncoder(torch.nn.Module):
    """What is run once: pieces of a text → the keys and values of the cross attention."""

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.whole = whole

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> Mapping[str, torch.Tensor]:
        """Give ``present.N.encoder.key`` and ``.value``, float (batch, heads, length, size)."""
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        encode = self.whole.get_encoder()
        states = encode(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        any_token = torch.zeros_like(input_ids[:, :1])
        _decoded(self.whole, any_token, states, attention_mask, cache)
        return {
            f"present.{number}.encoder.{kind}": getattr(layer, f"{kind}s")
            for number, layer in enumerate(cache.cross_attention_cache.layers)
            for kind in ("key", "value")
        }


class TextDecoder(torch.nn.Module):
    """What is run for each token: tokens and caches → logits of the last one, and its cache."""

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.whole = whole

    def forward(
        self,
        input_ids: torch.Tensor,
        past: Sequence[torch.Tensor],
        cross: Sequence[torch.Tensor],
        encoder_attention_mask: torch.Tensor,
    ) -> Mapping[str, torch.Tensor]:
        """Give ``logits`` float (batch, 1, pieces) and ``present.N.decoder.key``, ``.value``."""
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        own, others = DynamicCache(), DynamicCache()
        layers = len(cross) // 2
        for number in range(layers):
            own.update(past[2 * number], past[2 * number + 1], number)
            others.update(cross[2 * number], cross[2 * number + 1], number)
        cache = EncoderDecoderCache(own, others)
        for number in range(layers):
            cache.is_updated[number] = True
        # Of the encoder's states only the size is read, as their keys and values are there.
        states = encoder_attention_mask[..., None].to(cross[0].dtype)
        states = states.expand(-1, -1, self.whole.config.d_model)
        logits = _decoded(self.whole, input_ids, states, encoder_attention_mask, cache)
        found = {"logits": logits[:, -1:]}
        for number, layer in enumerate(own.layers):
            found[f"present.{number}.decoder.key"] = layer.keys
            found[f"present.{number}.decoder.value"] = layer.values
        return found


def _decoded(whole: Any, ids: torch.Tensor, states: Any, mask: torch.Tensor, cache: Any) -> Any:
    plain = whole.plain_forward  # of transformers: `forward` is the loop around it
    taken = inspect.signature(plain).parameters
    return plain(
        encoder_outputs=(states,),
        attention_mask=mask,
        decoder_input_ids=ids,
        use_cache=True,
        **{"cache" if "cache" in taken else "past_key_values": cache},  # since transformers 5.2
    ).logits


def text_parts(whole: Any) -> dict[str, tuple[torch.nn.Module, dict[str, Any]]]:
    """Give the parts, each with what is followed through it (`surgery.dynamo_export.Traced`)."""
    source, past, new = LENGTHS
    ids = torch.arange(BATCH * source).reshape(BATCH, source) % whole.config.vocab_size
    mask = torch.ones_like(ids)
    mask[1, -2:] = 0
    encoder, decoder = TextEncoder(whole), TextDecoder(whole)
    with torch.inference_mode():
        given = encoder.eval()(ids, mask)
    cross = [torch.randn(one.shape, generator=torch.Generator().manual_seed(place))
             for place, one in enumerate(given.values())]  # fmt: skip
    before = [one[:, :, :past].clone() for one in cross]
    others = [name.replace("present.", "past_key_values.") for name in given]
    own = [name.replace(".encoder.", ".decoder.") for name in others]
    rows = {0: "batch_size", 1: "encoder_sequence_length"}
    tokens = torch.arange(1, 1 + BATCH * new).reshape(BATCH, new)
    return {
        "encoder": (
            encoder,
            {
                "example": {"input_ids": ids, "attention_mask": mask},
                "axes": {"input_ids": rows, "attention_mask": rows},
                "outputs": tuple(given),
            },
        ),
        "decoder": (
            decoder,
            {
                "example": {
                    "input_ids": tokens, "past": before, "cross": cross,
                    "encoder_attention_mask": mask,
                },
                "axes": {"input_ids": {0: "batch_size", 1: "sequence_length"}}
                | {name: {0: "batch_size", 2: "past_sequence_length"} for name in own}
                | {name: {0: "batch_size", 2: "encoder_sequence_length"} for name in others}
                | {"encoder_attention_mask": rows},
                "outputs": ("logits", *(name.replace("past_key_values.", "present.")
                                        for name in own)),
                "names": ("input_ids", *own, *others, "encoder_attention_mask"),
            },
        ),
    }  # fmt: skip
