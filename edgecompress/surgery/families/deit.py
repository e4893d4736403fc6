"""DeiT (Touvron et al., 2021), with or without the head of its distillation token."""

from __future__ import annotations

from edgecompress.surgery.families._vision import vision

FAMILY = vision("deit")
