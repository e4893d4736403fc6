"""RoBERTa (Liu et al., 2019): BERT whose positions start behind the padding id."""

from __future__ import annotations

from edgecompress.surgery.families._family import Family

FAMILY = Family("roberta", position_offset=True)
