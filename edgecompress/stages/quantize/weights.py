"""Store weights in 4 or 8 bits with a scale per block, and leave activations in fp32.

Linear layers become `MatMulNBits`, embedding tables `GatherBlockQuantized`. Needs no data. Layers
that are left alone can be quantized by a stage that follows: a 4-bit table beside int8 layers.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import model_validator

from edgecompress.quantization.tables import TableTypes
from edgecompress.stage import Context, Kind
from edgecompress.values import Candidate, OnnxModel


class Weights(TableTypes):
    """Weight-only quantization by blocks, round to nearest or with searched scales."""

    accepts: ClassVar[tuple[Kind, ...]] = (OnnxModel,)
    yields: ClassVar[Kind] = OnnxModel

    linears: bool = True
    """Quantize the weights of linear layers. Their kernel is faster than fp32 and slower than that
    of int8 activations, so this is for size, or for layers whose activations cannot be int8."""
    linear_bits: Literal[4, 8] = 4
    """Of linear layers."""
    linear_block: Literal[16, 32, 64, 128] = 32
    """Inputs of an output that share a scale of 32 bits."""
    embedding_bits: Literal[4, 8] = 4
    """8: one scale for a table. 4: one scale for each `embedding_block` values of a row; half the
    size, and as fast. A table whose width is no multiple of 16 keeps 8."""
    method: Literal["nearest", "search"] = "search"
    """How a block's scale is found: from its largest value, or as that of the least squared error
    among 16."""
    exclude: tuple[str, ...] = ()
    """Names of nodes or weights that stay as they are."""

    @model_validator(mode="after")
    def _does_something(self) -> Weights:
        if not self.linears and not self.embeddings:
            raise ValueError("quantize.weights has nothing to do; set linears or embeddings")
        return self

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Write the quantized model and read back what runs in how many bits.

        Raises
        ------
        StageError
            When the model is too old to quantize, or ONNX Runtime refuses the result.
        """
        from edgecompress.quantization.inputs import onnx_model
        from edgecompress.quantization.proof import check_model, coverage
        from edgecompress.quantization.rewrite import check_excluded, rewrite
        from edgecompress.quantization.scheme import Scheme
        from edgecompress.quantization.storage import read_model, write_model

        source = onnx_model(candidate)
        scheme = Scheme(
            linears="blocks" if self.linears else "off",
            linear_bits=self.linear_bits,
            linear_block=self.linear_block,
            embeddings=self.embeddings,
            embedding_bits=self.embedding_bits,
            embedding_block=self.embedding_block,
            search=self.method == "search",
            exclude=frozenset(self.exclude),
        )
        stored = read_model(source.path)
        check_excluded(stored, scheme)
        context.progress(0, 2, "quantizing weights")
        quantized, reasons = rewrite(stored, scheme)
        model = OnnxModel(context.folder / "model" / "model.onnx", source.session)
        model.directory.mkdir(parents=True, exist_ok=True)
        write_model(quantized, model.path)
        context.progress(1, 2, "reading what runs in how many bits")
        check_model(model)
        return candidate.with_model(model, **coverage(model).to_json(reasons))
