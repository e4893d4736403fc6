"""``quantize.inc_dynamic``: int8 weights from Intel Neural Compressor, activations as they come."""

from __future__ import annotations

from typing import ClassVar

from edgecompress.stage import Context, Decisions, Kind
from edgecompress.stages._fields.inc import IncTables
from edgecompress.values import Candidate, OnnxModel, Step, TorchModel


class IncDynamic(IncTables):
    """Quantize a PyTorch model to int8 with Neural Compressor and export it to ONNX.

    Weights have one scale per output channel; each activation's range is computed when it is used
    (``DynamicQuantizeLinear`` and ``MatMulInteger``, which ONNX Runtime fuses). Needs no data.
    Embeddings are quantized, too.
    """

    also_called: ClassVar[tuple[str, ...]] = ("neural-compressor",)
    accepts: ClassVar[tuple[Kind, ...]] = (TorchModel,)
    yields: ClassVar[Kind] = OnnxModel

    exclude: tuple[str, ...] = ()
    """Linear layers that stay fp32, by their paths in the model."""

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was made integers."""
        from edgecompress import telling

        return telling.integers(step, telling.AT_RUN_TIME, telling.NEURAL_COMPRESSOR)

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Quantize; decisions name what is int8 and how far ONNX Runtime is from PyTorch.

        Raises
        ------
        MissingExtraError
            When neural-compressor is not installed.
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
            IncConfig("dynamic", exclude=self.exclude),
            embedding_bits=self.embedding_bits,
            embedding_block=self.embedding_block,
            force=self.force or bool(decisions.record),  # accepted when it was first made
        )
