"""Store weights in 4 or 8 bits with a scale per block, and leave activations in fp32.

Linear layers become `MatMulNBits`, embedding tables `GatherBlockQuantized`. Needs data for the
method `gptq` only. Layers that are left alone can be quantized by a stage that follows: a 4-bit
table beside int8 layers.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from edgecompress.quantization.observe.calibration_data import CalibrationData
from edgecompress.stage import Context, Decisions, Kind
from edgecompress.stages._fields.inputs import CalibrationFields
from edgecompress.stages._fields.judged import Judged, held
from edgecompress.stages._fields.tables import TableTypes
from edgecompress.values import Candidate, OnnxModel, Step

if TYPE_CHECKING:
    from edgecompress.models.storage import StoredModel
    from edgecompress.quantization.arithmetic.blocks import Blocks
    from edgecompress.quantization.plan.quant_plan import QuantPlan

CALIBRATION_FIELDS = ("calibration", "samples")


class Weights(CalibrationFields, TableTypes, Judged):
    """Weight-only quantization by blocks: nearest, with searched scales, or with GPTQ."""

    also_called: ClassVar[tuple[str, ...]] = ("int4", "4bit", "gptq", "weight-only", "w4a16")
    accepts: ClassVar[tuple[Kind, ...]] = (OnnxModel,)
    yields: ClassVar[Kind] = OnnxModel
    needs_data: ClassVar[bool] = True

    linears: bool = True
    """Quantize the weights of linear layers. Their kernel is faster than fp32 and slower than that
    of int8 activations, so this is for size, or for layers whose activations cannot be int8."""
    linear_bits: Literal[4, 8] = 4
    """Of linear layers."""
    linear_block: Literal[16, 32, 64, 128] = 32
    """Inputs of an output that share a scale of 32 bits."""
    compute: Literal["int8", "fp32"] = "int8"
    """In which the products are computed: for ``int8`` a layer's input is rounded block by block
    while it runs. ``fp32`` is nearer to the model, and on x86 many times slower: to see what the
    rounding of inputs costs."""
    offsets: bool = False
    """With `linear_bits: 4`: blocks have an offset beside their scale, in fractions of a step, and
    both take 8 bits in the file (without offsets a scale takes 32). Nearer to the weights in fewer
    bytes; products take some per cent longer. Scales of a table that is tied to a linear layer take
    8 bits, too, where its values do."""
    embedding_bits: Literal[4, 8] = 4
    """8: one scale for a table. 4: one scale for each `embedding_block` values of a row; half the
    size, and as fast. A table whose width is no multiple of 16, or
    that holds less than a hundredth of all tables' values, keeps 8."""
    method: Literal["nearest", "search", "gptq"] = "search"
    """``nearest``: a block's scale comes from its largest value; ``search``: it is that of the
    least squared error among 16; ``gptq``: in linear layers, weights make up for the rounding of
    those before, so that products with real inputs change least. ``gptq`` runs the model on
    `calibration` or `inputs`; embeddings are done as by ``search``."""
    exclude: tuple[str, ...] = ()
    """Names of nodes or weights that stay as they are."""

    @model_validator(mode="after")
    def _does_something(self) -> Weights:
        if not self.linears and not self.embeddings:
            raise ValueError("quantize.weights has nothing to do; set linears or embeddings")
        if self.offsets and self.linear_bits == 8:
            raise ValueError("offsets are for linear_bits: 4; leave them out")
        if self.method != "gptq":
            for name in CALIBRATION_FIELDS:
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is for method: gptq only; leave it out")
        elif not self.linears:
            raise ValueError("gptq is for linear layers; set linears, or method: search")
        return self

    def reads_examples(self) -> bool:
        """Whether it reads examples: only GPTQ does, and not where files of inputs are given."""
        return self.method == "gptq" and super().reads_examples()

    def leaves_quantizing(self) -> bool:
        """Whether linear layers are left for another stage, beside tables in few bits."""
        return not self.linears

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was made integers."""
        from edgecompress import telling

        return telling.integers(step, "activations in floating point")

    def write(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Write the quantized model and read back what runs in how many bits.

        Raises
        ------
        StageError
            When the model is too old to quantize, ONNX Runtime refuses the result, or there is
            nothing to calibrate with.
        DataError
            When the calibration set or files of inputs are missing or malformed.
        """
        from edgecompress.models.inputs import onnx_model
        from edgecompress.models.storage import read_model
        from edgecompress.quantization.graphs.opset import with_opset
        from edgecompress.quantization.observe.channels import one_thread
        from edgecompress.quantization.plan.checks import check_quantizable, check_quantized
        from edgecompress.quantization.plan.planning import plan_of
        from edgecompress.quantization.plan.scheme import LEAST_OPSET, Scheme
        from edgecompress.quantization.prove.proven import write_proven

        upgraded = context.scratch / "upgraded"
        least = LEAST_OPSET["weight-only"]
        source, stored, decided = with_opset(onnx_model(candidate), least, upgraded)
        check_quantizable(stored, self.exclude, but={"conv", "lstm"})
        blocks: Mapping[str, Blocks] = {}
        if self.method == "gptq":
            data = self.calibration_data(candidate, source, context)
            with one_thread():
                blocks = self._gptq(source, stored, data, context)
            decided |= {"calibrated_on": data.count, "gptq": sorted(blocks)}
        scheme = Scheme(
            linears="blocks" if self.linears else "off",
            linear_bits=self.linear_bits,
            linear_block=self.linear_block,
            **self.table_types(),
            search=self.method != "nearest",
            floats=self.compute == "fp32",
            offsets=self.offsets,
            exclude=frozenset(self.exclude),
            blocks=blocks,
            held=held(decisions),
        )
        context.progress(0, 2, "quantizing weights")
        model = OnnxModel(context.folder / "model" / "model.onnx", source.session)

        def planned(graph: StoredModel, _: frozenset[str]) -> QuantPlan:
            plan = plan_of(graph, scheme)
            check_quantized(plan)
            return plan

        proven = write_proven(
            lambda: read_model(source.path),
            planned,
            model,
            beside=source,
            written=lambda: context.progress(1, 2, "reading what runs in how many bits"),
        )
        decided |= proven.to_json()
        shutil.rmtree(upgraded, ignore_errors=True)
        return candidate.with_model(model, **decided)

    def _gptq(
        self, source: OnnxModel, stored: StoredModel, data: CalibrationData, context: Context
    ) -> dict[str, Blocks]:
        """Quantize the linear layers' weights by what the samples put into them."""
        from edgecompress.quantization.graphs.layers import find_layers
        from edgecompress.quantization.observe.channels import stream
        from edgecompress.quantization.observe.observing import observing
        from edgecompress.quantization.plan.planning import tied_tables
        from edgecompress.quantization.write.gptq import (
            gptq_weights,
            hessians,
            passes,
            quantize_weight,
        )

        weights = gptq_weights(stored, frozenset(self.exclude), self.linear_block)
        if self.offsets or self.embedding_bits != self.linear_bits:
            tables = tied_tables(find_layers(stored))  # stored as a look-up reads them
            weights = [weight for weight in weights if weight.name not in tables]
        shares = passes(weights)
        made: dict[str, Blocks] = {}
        for number, share in enumerate(shares):
            names = list(dict.fromkeys(name for weight in share for name in weight.inputs))

            def said(done: int, before: int = number * data.count) -> None:
                context.progress(before + done, len(shares) * data.count, "inputs of layers")

            with observing(source, names, context.scratch / "observed") as observed:
                found = hessians(stream(observed, names, data.feeds(), progress=said))
            for weight in share:
                made[weight.name] = quantize_weight(
                    stored,
                    weight,
                    found,
                    self.linear_bits,
                    self.linear_block,
                    offsets=self.offsets,
                )
        return made
