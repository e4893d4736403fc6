"""The types of the integers that linear layers become, and the presets that set them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import model_validator

from edgecompress.quantization.plan.presets import PRESETS, IntegerType, PresetName
from edgecompress.stage import Transform
from edgecompress.values import Json

FIELDS = ("weight", "activation", "symmetric", "per_channel", "reduce_range")


class LinearTypes(Transform):
    """Fields that the stages have in common which quantize linear layers to 8-bit integers."""

    preset: PresetName | None = None
    """The processors that it is for: it sets the types, `symmetric`, `per_channel` and
    `reduce_range` where the recipe does not. With `portable` no integer sum overflows
    on any of them, so that answers differ at most by what fp32 between the layers rounds."""
    weight: IntegerType = "int8"
    """Of linear layers. uint8 saturates on no CPU, and is slower on all but those with dot
    product."""
    symmetric: bool = True
    """Weights are scaled by their largest absolute value, with the zero point in the middle; else
    by their lowest and highest, for uint8 only."""
    per_channel: bool = True
    """One weight scale for each output of a linear layer; more accurate, as fast."""
    reduce_range: bool = False
    """Weights in 7 bits, for x86 CPUs without VNNI, whose int8 kernels saturate with 8."""

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, given: Any) -> Any:
        """Add to the fields that are set those that the preset wants other than they are."""
        if not isinstance(given, Mapping) or given.get("preset") not in tuple(PRESETS):
            return given
        name = given["preset"]
        preset = PRESETS[name]
        for field in sorted(preset.promised & given.keys()):
            if given[field] != getattr(preset, field):
                raise ValueError(
                    f"preset {name} gives the same answers on every processor because {field} is "
                    f"{_yaml(getattr(preset, field))}; leave {field} out, or choose another preset"
                )
        wanted = {field: getattr(preset, field) for field in FIELDS if field in cls.model_fields}
        added = {f: value for f, value in wanted.items() if value != cls.model_fields[f].default}
        return added | dict(given)

    @model_validator(mode="after")
    def _check_types(self) -> Self:
        if self.weight == "int8" and not self.symmetric:
            raise ValueError(
                "int8 weights are symmetric, because a weight of -128 overflows on Arm without dot "
                "product; set weight: uint8, or leave symmetric out"
            )
        return self

    def weight_types(self) -> dict[str, Any]:
        """Give the fields of a `Scheme` that say which integers a linear layer's weight becomes."""
        return {
            "per_channel": self.per_channel,
            "reduce_range": self.reduce_range,
            "unsigned_weights": self.weight == "uint8",
            "symmetric_weights": self.symmetric,
        }

    def types_json(self, activation: IntegerType) -> Json:
        """Give what a step records of its linear layers' types.

        Parameters
        ----------
        activation : {"int8", "uint8"}
            uint8 uses its whole range (its zero point lies where 0 is), int8 is symmetric.
        """
        return {
            "weight": self.weight,
            "weight_bits": 7 if self.reduce_range else 8,
            "weight_symmetric": self.symmetric,
            "activation": activation,
            "activation_symmetric": activation == "int8",
            "per_channel": self.per_channel,
        }


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
