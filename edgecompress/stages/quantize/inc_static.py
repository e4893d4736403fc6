"""``quantize.inc_static``: int8 with Intel Neural Compressor, activation ranges from real texts."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from edgecompress.stage import Context, Decisions, Kind
from edgecompress.stages._fields.inc import IncCalibration
from edgecompress.values import Candidate, OnnxModel, Step, TorchModel


class IncStatic(IncCalibration):
    """Quantize a PyTorch model to int8 with Neural Compressor and export it to ONNX.

    Weights have one scale per output channel; each activation has one fixed range, observed on
    calibration texts (QDQ graph). Embeddings are quantized, too.
    """

    also_called: ClassVar[tuple[str, ...]] = ("neural-compressor",)
    accepts: ClassVar[tuple[Kind, ...]] = (TorchModel,)
    yields: ClassVar[Kind] = OnnxModel
    needs_data: ClassVar[bool] = True

    method: Literal["minmax", "histogram"] = "histogram"
    """How a range is found: the cut of a histogram of all values that loses least (Neural
    Compressor's ``kl``), or ``minmax``, its own default: a moving average of each text's extremes,
    of which the first of 64 texts makes up half."""
    smooth: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] | None = None
    """SmoothQuant before quantization: alpha, the share of the activations' difficulty that goes to
    the weights (0.5 in its paper), or ``auto``, Neural Compressor's search for one alpha per group
    of layers. Each group costs one multiplication when the model runs."""
    exclude: tuple[str, ...] = ()
    """Linear layers that stay fp32, by their paths in the model."""

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was made integers."""
        from edgecompress import telling

        return telling.integers(step, telling.calibrated(step), telling.NEURAL_COMPRESSOR)

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
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
        from edgecompress.quantization.inc.config import IncConfig
        from edgecompress.quantization.inc.library import quiet

        with quiet():
            from edgecompress.quantization.inc.source import quantize_with_inc

        return quantize_with_inc(
            candidate,
            context,
            IncConfig("static", self.method, self.smooth, self.exclude),
            self._examples(context),
            embedding_bits=self.embedding_bits,
            embedding_block=self.embedding_block,
            force=self.force or bool(decisions.record),  # accepted when it was first made
        )
