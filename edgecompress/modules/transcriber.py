"""A model that gives what it writes: transformers' own, asked in a loop, and its two parts.

What `generate` does step by step stands in one ``forward`` here, so that a transcript or another
text goes the same way as any other model's answer. The parts are what is exported: the encoder
gives the keys and values of the decoder's cross attention, computed once; the decoder takes them
and its own cache. Here are those of speech, and in `text_writer` those of models of texts.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from edgecompress.modules.decoding import Decoding
from edgecompress.modules.text_writer import TextDecoder, TextEncoder, text_parts

BATCH, PAST, NEW = 2, 5, 3
"""Sizes that are traced: no two the same, and none 0 or 1, which would be taken for constants."""


@dataclass
class TranscriptOutput(ModelOutput):
    """What such a model gives.

    Attributes
    ----------
    tokens : torch.Tensor
        float (batch, steps, 2): each token's number and its log probability among those allowed.
    """

    tokens: torch.Tensor | None = None


@functools.cache
def transcriber_of(head: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """Give the class over a head of speech: ``TranscribingWhisperForConditionalGeneration``.

    How it is asked stands in its configuration (`Decoding.to_json` under ``decoding``).
    """
    return _asked_in_a_loop("Transcribing", head, _transcribe, export_parts)


@functools.cache
def writer_of(head: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """Give the class over a head of texts: ``WritingT5ForConditionalGeneration``."""
    return _asked_in_a_loop("Writing", head, _write, text_parts)


def _asked_in_a_loop(
    named: str, head: type[PreTrainedModel], forward: Any, parts: Any
) -> type[PreTrainedModel]:
    plain = head.forward
    made: type[PreTrainedModel] = type(
        f"{named}{head.__name__}",
        (head,),
        {
            "__module__": __name__,
            "__doc__": f"{head.__name__} that gives what it writes.",
            "config_class": head.config_class,
            "forward": forward,
            "plain_forward": plain,
            "export_parts": parts,
        },
    )
    return made


def _transcribe(self: Any, input_features: torch.Tensor) -> TranscriptOutput:
    """Write the transcript of each window, (batch, bands, frames)."""
    cross = list(Encoder(self)(input_features).values())
    return _written(self, Decoder(self), cross, ())


def _write(self: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> TranscriptOutput:
    """Write the text for each row of pieces, (batch, length)."""
    cross = list(TextEncoder(self)(input_ids, attention_mask).values())
    return _written(self, TextDecoder(self), cross, (attention_mask,))


def _written(
    self: Any, decoder: Any, cross: Sequence[torch.Tensor], given: Sequence[torch.Tensor]
) -> TranscriptOutput:
    """Take the likeliest token that is allowed, until all rows have ended."""
    how = Decoding.from_json(self.config.decoding)
    count, device = len(cross[0]), cross[0].device
    past = [one[:, :, :0] for one in cross]
    ids = torch.full((count, 1), how.start, device=device)
    done = torch.zeros(count, dtype=torch.bool, device=device)
    found = []
    for step in range(how.steps):
        logits, *past = decoder(ids, past, cross, *given).values()
        if not step:
            masks = step_masks(how, logits.shape[-1]).to(device)
        allowed = logits[:, -1].float() + masks[min(step, len(masks) - 1)]
        best = allowed.argmax(-1)
        score = allowed.max(-1).values - allowed.logsumexp(-1)
        token = torch.where(done, torch.tensor(how.end, device=device), best)
        done = done | (token == how.end)
        found.append(torch.stack((token.float(), score), -1))
        ids = token[:, None]
        if bool(done.all()):
            break
    return TranscriptOutput(torch.stack(found, 1))


def step_masks(how: Decoding, pieces: int) -> torch.Tensor:
    """Give what is added to the logits at each step, float (steps, pieces): 0 or minus infinity.

    The last row holds for all steps that follow.
    """
    masks = torch.zeros(len(how.forced) + 2, pieces)
    for row, allowed in enumerate(how.forced):
        masks[row] = -torch.inf
        masks[row, list(allowed)] = 0
    masks[-2:, list(how.suppressed)] = -torch.inf
    masks[-2, list(how.first_suppressed)] = -torch.inf
    return masks


class Encoder(torch.nn.Module):
    """What is run once: sound → the keys and values of the decoder's cross attention."""

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.model = whole.model

    def forward(self, input_features: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Give ``present.N.encoder.key`` and ``.value``, float (batch, heads, frames, size)."""
        states = self.model.encoder(input_features).last_hidden_state
        found = {}
        for number, layer in enumerate(self.model.decoder.layers):
            attention = layer.encoder_attn
            shape = (states.shape[0], -1, attention.num_heads, attention.head_dim)
            for kind, projection in (("key", attention.k_proj), ("value", attention.v_proj)):
                values = projection(states).view(shape).transpose(1, 2)
                found[f"present.{number}.encoder.{kind}"] = values
        return found


class Decoder(torch.nn.Module):
    """What is run for each token: tokens and caches → logits of the last one, and its cache."""

    def __init__(self, whole: Any) -> None:
        super().__init__()
        self.model, self.proj_out = whole.model, whole.proj_out

    def forward(
        self, input_ids: torch.Tensor, past: Sequence[torch.Tensor], cross: Sequence[torch.Tensor]
    ) -> Mapping[str, torch.Tensor]:
        """Give ``logits`` float (batch, 1, pieces) and ``present.N.decoder.key``, ``.value``.

        Parameters
        ----------
        input_ids : int64 (batch, length)
        past, cross : sequence of float (batch, heads, length, size)
            Keys and values of each layer in turn: of the tokens before, and the encoder's.
        """
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        own, others = DynamicCache(), DynamicCache()
        for number in range(len(self.model.decoder.layers)):
            own.update(past[2 * number], past[2 * number + 1], number)
            others.update(cross[2 * number], cross[2 * number + 1], number)
        cache = EncoderDecoderCache(own, others)
        for number in range(len(self.model.decoder.layers)):
            cache.is_updated[number] = True
        decode = self.model.decoder
        taken = inspect.signature(decode.forward).parameters
        states = decode(
            input_ids=input_ids,
            encoder_hidden_states=cross[0],  # of which only that it is there is read
            use_cache=True,
            **{"cache" if "cache" in taken else "past_key_values": cache},  # since transformers 5.2
        ).last_hidden_state
        found = {"logits": self.proj_out(states[:, -1:])}
        for number, layer in enumerate(own.layers):
            found[f"present.{number}.decoder.key"] = layer.keys
            found[f"present.{number}.decoder.value"] = layer.values
        return found


def export_parts(self: Any) -> dict[str, tuple[torch.nn.Module, dict[str, Any]]]:
    """Give the parts, each with what is followed through it (`surgery.dynamo_export.Traced`)."""
    config = self.config
    layers, heads = config.decoder_layers, config.decoder_attention_heads
    size, frames = config.d_model // heads, config.max_source_positions
    states = [f"{number}.{{}}.{kind}" for number in range(layers) for kind in ("key", "value")]
    own = [f"past_key_values.{one.format('decoder')}" for one in states]
    cross = [f"past_key_values.{one.format('encoder')}" for one in states]
    batch = {0: "batch_size"}
    random = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    encoder = {
        "example": {"input_features": drawn(BATCH, config.num_mel_bins, 2 * frames)},
        "axes": {"input_features": batch},
        "outputs": tuple(f"present.{one.format('encoder')}" for one in states),
    }
    decoder = {
        "example": {
            "input_ids": torch.arange(1, 1 + BATCH * NEW).reshape(BATCH, NEW),
            "past": [drawn(BATCH, heads, PAST, size) for _ in own],
            "cross": [drawn(BATCH, heads, frames, size) for _ in cross],
        },
        "axes": {"input_ids": {**batch, 1: "sequence_length"}}
        | {name: {**batch, 2: "past_sequence_length"} for name in own}
        | {name: {0: "batch_size"} for name in cross},
        "outputs": ("logits", *(f"present.{one.format('decoder')}" for one in states)),
        "names": ("input_ids", *own, *cross),
    }
    return {"encoder": (Encoder(self), encoder), "decoder": (Decoder(self), decoder)}
