"""The fields that Neural Compressor's stages have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from edgecompress.stage import Context, Transform
from edgecompress.stages._fields.inputs import NamedCalibration
from edgecompress.values import Example


class IncTables(Transform):
    """How embedding tables are stored."""

    embedding_bits: Literal[4, 8] = 8
    """8: one scale for each row of a table. 4: one for each `embedding_block` values of a row; half
    the size, and as fast. A table whose width is no multiple of 16 keeps 8."""
    embedding_block: Literal[16, 32, 64, 128] = 32
    """Values that share a scale of 16 bits, with `embedding_bits: 4`."""
    force: bool = False
    """Keep the result although its answers are no longer those of the fp32 model."""


class IncCalibration(NamedCalibration, IncTables):
    """Which texts activation ranges are measured on."""

    samples: int = Field(default=64, ge=1)
    """How many examples to measure ranges on."""

    def _examples(self, context: Context) -> Sequence[Example]:
        from edgecompress.data.calibration import CalibrationSet, load_calibration

        chosen = load_calibration(self.calibration) if self.calibration else None
        chosen = chosen or CalibrationSet(name="random", samples=self.samples)
        return chosen.select(context.train, context.seed, self.samples)
