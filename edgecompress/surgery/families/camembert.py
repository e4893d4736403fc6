"""CamemBERT (Martin et al., 2020): RoBERTa with a SentencePiece vocabulary."""

from __future__ import annotations

from edgecompress.surgery.families._family import Family

FAMILY = Family("camembert", position_offset=True)
