"""How a stage that trains heals a model by products of low rank (no torch here)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

Role = Literal["query", "key", "value", "qkv", "output", "ffn_gate", "ffn_in", "ffn_out"]
"""The linear layers of a block, as families name them."""


class Lora(BaseModel):
    """Low-rank adaptation: what is added to each matrix while everything else stays."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rank: PositiveInt = 8
    """Inner width of what is added to a matrix: a product of two."""
    alpha: PositiveFloat = 16.0
    """The product counts alpha / rank times."""
    only: tuple[Role, ...] = Field(default=())
    """Which linear layers of a described family's blocks; left empty, all of the model's body."""
