"""ModernBERT (Warner et al., 2024): one matrix for query, key and value, gated feed-forward parts.

Every third layer attends to the whole text, the others to a window; which one a layer is depends on
the number that it was made with, and the very first has no normalization in front.
"""

from __future__ import annotations

from edgecompress.surgery.families._family import Family

FAMILY = Family(
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
    layer_number="attn.layer_id",
    # Else it is compiled where triton is installed, on a CPU too.
    settings=(("reference_compile", False),),
)
