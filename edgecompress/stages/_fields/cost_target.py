"""The field by which pruning is told what a model may cost."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

UNITS = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9}


class CostTarget(BaseModel):
    """What the pruned model may cost; one of size, macs and latency."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    size: float | str | None = None
    """Share of all weights to keep, embeddings included, or their bytes as deployed (``12MB``)."""
    macs: float | None = Field(default=None, gt=0, le=1)
    """Share of the blocks' multiply-accumulates to keep."""
    latency: float | None = Field(default=None, gt=0, le=1)
    """Share of the blocks' time to keep, by a table that is measured."""
    on: str = "local"
    """The target that the latency table is measured on."""
    threads: PositiveInt = 1
    """``intra_op_num_threads`` of that measurement."""
    deployed: Literal["int8", "fp32"] = "int8"
    """The form that the model will run in: the table's graphs are in it, and bytes are counted
    so."""

    @field_validator("size")
    @classmethod
    def _in_bytes(cls, size: float | str | None) -> float | str | None:
        if isinstance(size, str):
            match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(\w+)\s*", size)
            if not match or match[2].lower() not in UNITS:
                raise ValueError(f"size is a share such as 0.5 or bytes such as 12MB, not {size!r}")
        elif size is not None and not 0 < size <= 1:
            raise ValueError("size is a share from 0 to 1, or bytes with their unit, such as 12MB")
        return size

    @model_validator(mode="after")
    def _one_aim(self) -> CostTarget:
        if sum(aim is not None for aim in (self.size, self.macs, self.latency)) != 1:
            raise ValueError("a target names one of size, macs and latency")
        return self

    def weights(self, whole: float) -> float:
        """Give how many weights `size` leaves room for, of `whole`."""
        if isinstance(self.size, str):
            number, unit = re.findall(r"[\d.]+|[a-zA-Z]+", self.size)
            return float(number) * UNITS[unit.lower()] / (1 if self.deployed == "int8" else 4)
        return (self.size or 1.0) * whole
