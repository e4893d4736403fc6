"""ELECTRA (Clark et al., 2020): BERT with an embedding of its own width."""

from __future__ import annotations

from edgecompress.surgery.families._family import Family

FAMILY = Family("electra")
