"""``quantize.inc_static``: int8 with Intel Neural Compressor, activation ranges from real texts."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from edgecompress.stage import Context, Kind, Transform
from edgecompress.values import Candidate, Json, OnnxModel, TorchModel


class IncStatic(Transform):
    """Quantize a PyTorch model to int8 with Neural Compressor and export it to ONNX.

    Weights have one scale per output channel; each activation has one fixed range, observed on
    calibration texts (QDQ graph). Embeddings are int8 with one scale per row.
    """

    accepts: ClassVar[tuple[Kind, ...]] = (TorchModel,)
    yields: ClassVar[Kind] = OnnxModel
    needs_data: ClassVar[bool] = True

    calibration: str | None = None
    """A calibration set by name, or the path of its YAML file; without one, examples of the
    training set at random."""
    samples: int = Field(default=64, ge=1)
    """How many examples to measure ranges on."""
    method: Literal["minmax", "histogram"] = "histogram"
    """How a range is found: the cut of a histogram of all values that loses least (Neural
    Compressor's ``kl``), or ``minmax``, its own default: a moving average of each text's extremes,
    of which the first of 64 texts makes up half."""

    def identity(self) -> Json:
        """Give the parameters with the calibration set's digest in its name's place."""
        from edgecompress.data.calibration import load_calibration

        found = self.model_dump(mode="json")
        if self.calibration:
            found["calibration"] = load_calibration(self.calibration).digest
        return found

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Quantize; decisions name what is int8 and how far ONNX Runtime is from PyTorch.

        Raises
        ------
        MissingExtraError
            When neural-compressor is not installed.
        DataError
            When there is nothing to calibrate with, or the calibration set is malformed.
        StageError
            When the model cannot be exported, or computes something else in ONNX Runtime.
        """
        from edgecompress.data.calibration import CalibrationSet, load_calibration
        from edgecompress.quantization.inc import quantize_with_inc

        chosen = load_calibration(self.calibration) if self.calibration else None
        chosen = chosen or CalibrationSet(name="random", samples=self.samples)
        examples = chosen.select(context.train, context.seed, self.samples)
        algorithm = "kl" if self.method == "histogram" else "minmax"
        return quantize_with_inc(candidate, context, "static", {"act_algo": algorithm}, examples)
