"""Llama (Touvron et al., 2023), and what keeps its shape (SmolLM, SmolLM2, TinyLlama, …)."""

from __future__ import annotations

from edgecompress.surgery.families._decoder import decoder

FAMILY = decoder("llama")
