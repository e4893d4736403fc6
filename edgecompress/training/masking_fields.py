"""What is hidden from a model that learns by guessing, as fields of a stage (no torch here)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Masking(BaseModel):
    """How pieces are hidden; only the task masked-lm reads it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    share: float = Field(default=0.15, gt=0, lt=1)
    """Of a text's pieces, how many are hidden; at least one."""
    whole_words: bool = False
    """Hide all pieces of a blank-separated word, or none: harder than single pieces of words."""
