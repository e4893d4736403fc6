"""BERT (Devlin et al., 2019), and what keeps its shape (MiniLM, multilingual BERT, …)."""

from __future__ import annotations

from edgecompress.surgery.families._family import Family

FAMILY = Family("bert")
