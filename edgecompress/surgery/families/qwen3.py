"""Qwen3 (Yang et al., 2025): Llama whose queries and keys are normalized head by head."""

from __future__ import annotations

from edgecompress.surgery.families._decoder import decoder

FAMILY = decoder("qwen3")
