"""What Llama and its kin share: grouped-query attention, and gates in a matrix of their own.

Their configuration says more than that of an encoder: the width of a head beside that of the hidden
states, so that transformers loads what was cut alike in all layers without a record of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgecompress.surgery.families._family import Family

if TYPE_CHECKING:
    from torch import nn


class Decoder(Family):
    """A family whose heads are counted by their keys and values."""

    def set_layers(self, module: Any, layers: Sequence[nn.Module]) -> None:
        """Let a model run these of its layers; each keeps its kind of attention."""
        kinds = getattr(module.config, "layer_types", None)
        if kinds:
            there = [id(layer) for layer in self.run_layers(module)]
            module.config.layer_types = [kinds[there.index(id(layer))] for layer in layers]
        super().set_layers(module, layers)

    def write_sizes(
        self, config: Any, heads: Sequence[int], neurons: Sequence[int], hidden: int
    ) -> bool:
        """Write all sizes into the configuration, where all layers have the same."""
        before = int(config.num_key_value_heads)
        group = int(config.num_attention_heads) // before
        if len(set(neurons)) == 1:
            setattr(config, self.neurons_field, neurons[0])
        same = len(set(heads)) == 1 and len(set(neurons)) == 1
        # Llama's configuration asks for the divisor, though nothing is divided.
        if not same or hidden % (heads[0] * group):
            width = getattr(config, self.neurons_field)
            even = all(n == before for n in heads) and all(n == width for n in neurons)
            return even and hidden == config.hidden_size
        size = getattr(config, "head_dim", None)
        config.head_dim = size or config.hidden_size // config.num_attention_heads
        config.num_attention_heads, config.num_key_value_heads = heads[0] * group, heads[0]
        config.hidden_size = hidden
        return True


def decoder(model_type: str) -> Decoder:
    """Describe Llama and what keeps its shape."""
    return Decoder(
        model_type,
        layers="layers",
        embeddings="embed_tokens",
        words="embed_tokens",
        attention="self_attn",
        query="self_attn.q_proj",
        key="self_attn.k_proj",
        value="self_attn.v_proj",
        output="self_attn.o_proj",
        ffn_gate="mlp.gate_proj",
        ffn_in="mlp.up_proj",
        ffn_out="mlp.down_proj",
        head_size_attribute="head_dim",
        group_attribute="num_key_value_groups",
    )
