"""DistilBERT (Sanh et al., 2019)."""

from __future__ import annotations

from edgecompress.surgery.families._family import Family

FAMILY = Family(
    "distilbert",
    layers="transformer.layer",
    attention="attention",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    output="attention.out_lin",
    ffn_in="ffn.lin1",
    ffn_out="ffn.lin2",
    heads_attribute="n_heads",
    width_attribute="dim",
    neurons_field="hidden_dim",
)
