"""Qwen2 and Qwen2.5 (Yang et al., 2024): Llama with biases in front of attention."""

from __future__ import annotations

from edgecompress.surgery.families._decoder import decoder

FAMILY = decoder("qwen2")
