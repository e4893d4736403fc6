"""ViT (Dosovitskiy et al., 2021)."""

from __future__ import annotations

from edgecompress.surgery.families._vision import vision

FAMILY = vision("vit")
