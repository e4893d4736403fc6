"""XLM-R (Conneau et al., 2020) and its kin (AfriBERTa, AfroXLMR, Serengeti, …)."""

from __future__ import annotations

from edgecompress.surgery.families._family import Family

FAMILY = Family("xlm-roberta", position_offset=True)
