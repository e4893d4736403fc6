"""The field `qat` of the stages that train: quantization-aware training (no torch here).

Its fields have the names, meanings and defaults of those of `quantize.static`, because what is
trained for must be what is done: `chains` refuses a recipe in which they differ.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

ALIKE = ("weight", "activation", "symmetric", "per_channel", "reduce_range")
"""Fields of linear layers that the stage which quantizes must have alike."""
TABLES_ALIKE = ("embeddings", "embedding_bits", "embedding_block")
"""Those of embedding tables."""


class Qat(BaseModel):
    """Train while weights, tables and the inputs of linear layers are rounded as int8 has them."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, serialize_by_alias=True
    )

    activations: bool = True
    """Round the inputs of linear layers, too, and learn their ranges, which `quantize.static:
    {ranges: qat}` takes. False rounds weights and tables only, for `quantize.dynamic` and
    `quantize.weights`."""
    linears: bool = True
    """Round linear layers; false leaves only the embedding tables."""
    weight: Literal["int8", "uint8"] = "int8"
    """Of linear layers."""
    activation: Literal["int8", "uint8"] = "uint8"
    """Of the inputs of linear layers."""
    symmetric: bool = True
    """Weights are scaled by their largest absolute value; else by lowest and highest."""
    per_channel: bool = True
    """One weight scale for each output of a linear layer."""
    reduce_range: bool = False
    """Weights in 7 bits."""
    embeddings: bool = True
    """Round embedding tables."""
    embedding_bits: Literal[4, 8] = 8
    """8: one scale for a table. 4: one for each `embedding_block` values of a row."""
    embedding_block: Literal[16, 32, 64, 128] = 32
    """Values that share a scale, with `embedding_bits: 4`."""
    exclude: tuple[str, ...] = ()
    """Modules that stay fp32, by their paths, such as `classifier` or `bert.encoder.layer.0` with
    all that is in it. The static stage leaves the same layers alone; tables and layers without
    ranges need their names in its own `exclude`, too."""
    ranges: Literal["learned", "calibrated"] = "learned"
    """Ends of the activations' ranges: learned from the loss, or left as they were calibrated."""
    samples: PositiveInt = 64
    """Training rows whose lowest and highest activations are the ranges to begin with."""
    range_rate: PositiveFloat = 10.0
    """A step moves an end of a range by up to about this many learning rates, as a share of it."""
    start: float = Field(default=0.0, ge=0, lt=1, alias="from")
    """Share of all steps after which rounding begins; only later epochs can be the best one."""

    @model_validator(mode="after")
    def _rounds_something(self) -> Qat:
        if not self.linears and not self.embeddings:
            raise ValueError("qat rounds nothing; set linears or embeddings")
        if not self.linears and self.activations:
            raise ValueError("activations are the inputs of linear layers; set activations: false")
        if self.weight == "int8" and not self.symmetric:
            raise ValueError("int8 weights are symmetric; set weight: uint8, or leave it out")
        return self

    def first(self, total: int) -> int:
        """Give the step (of `total`) after which rounding begins; 0 is before the first."""
        return int(self.start * total)

    def leaves(self, path: str) -> bool:
        """Whether the module at `path` stays fp32."""
        return any(path == name or path.startswith(f"{name}.") for name in self.exclude)
