"""ModernBERT (Warner et al., 2024): one matrix for query, key and value, gated feed-forward parts.

Every third layer attends to the whole text, the others to a window; which one a layer is depends on
the number that it was made with, and the very first has no normalization in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgecompress.surgery.families._family import Family

if TYPE_CHECKING:
    from torch import nn


class ModernBert(Family):
    """Layers say their number themselves: under transformers 5 and, in attention, under 4."""

    def layer_numbers(self, module: Any) -> list[int] | None:
        """Give the numbers that the layers were made with, if they have gaps."""
        layers: Sequence[nn.Module] = self.run_layers(module)
        found = [
            int(layer.layer_idx if hasattr(layer, "layer_idx") else layer.attn.layer_id)
            for layer in layers
        ]
        return None if found == list(range(len(found))) else found


FAMILY = ModernBert(
    "modernbert",
    layers="layers",
    words="embeddings.tok_embeddings",
    attention="attn",
    qkv="attn.Wqkv",
    output="attn.Wo",
    ffn_in="mlp.Wi",
    ffn_out="mlp.Wo",
    gated=True,
    heads_attribute="num_heads",
    head_size_attribute="head_dim",
    # Else it is compiled where triton is installed, on a CPU too.
    settings=(("reference_compile", False),),
)
