"""Quantize an ONNX model to int8 with activation ranges found at run time (no data needed).

The arithmetic is ONNX Runtime's `quantize_dynamic`, and so are the resulting bits; the model is
rewritten one weight at a time, so that no second copy of it is ever in memory.
"""

from __future__ import annotations

import shutil
from typing import ClassVar

from edgecompress.stage import Context, Decisions, Kind
from edgecompress.stages._fields.judged import Judged, held
from edgecompress.stages._fields.linear_types import LinearTypes
from edgecompress.stages._fields.tables import TableTypes
from edgecompress.values import Candidate, OnnxModel, Step


class Dynamic(LinearTypes, TableTypes, Judged):
    """Int8 weights, and activations quantized at run time, for linear layers and embeddings."""

    also_called: ClassVar[tuple[str, ...]] = ("int8", "ptq")
    accepts: ClassVar[tuple[Kind, ...]] = (OnnxModel,)
    yields: ClassVar[Kind] = OnnxModel

    exclude: tuple[str, ...] = ()
    """Names of nodes or weights that stay fp32."""

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was made integers."""
        from edgecompress import telling

        return telling.integers(step, telling.AT_RUN_TIME)

    def write(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Write the quantized model and prove what runs as int8.

        Raises
        ------
        StageError
            When the model is too old to quantize, or ONNX Runtime refuses the result.
        """
        from edgecompress.models.inputs import onnx_model
        from edgecompress.models.storage import read_model
        from edgecompress.quantization.graphs.opset import with_opset
        from edgecompress.quantization.graphs.shapes import with_known_shapes
        from edgecompress.quantization.plan.checks import check_quantizable
        from edgecompress.quantization.plan.planning import plan_of
        from edgecompress.quantization.plan.scheme import LEAST_OPSET, Scheme
        from edgecompress.quantization.prove.proven import write_proven

        upgraded, shapes = context.scratch / "upgraded", context.scratch / "shapes"
        least = LEAST_OPSET["dynamic"]
        source, stored, decided = with_opset(onnx_model(candidate), least, upgraded)
        source, stored = with_known_shapes(source, stored, shapes)
        check_quantizable(stored, self.exclude, but={"conv"})
        scheme = Scheme(
            **self.weight_types(),
            **self.table_types(),
            exclude=frozenset(self.exclude),
            held=held(decisions),
        )
        context.progress(0, 2, "quantizing weights")
        model = OnnxModel(context.folder / "model" / "model.onnx", source.session)
        proven = write_proven(
            lambda: read_model(source.path),
            lambda graph, _: plan_of(graph, scheme),
            model,
            beside=source,
            written=lambda: context.progress(1, 2, "reading what runs as int8"),
        )
        types = self.types_json("uint8")  # the only type of DynamicQuantizeLinear
        decided |= proven.to_json()
        for aside in (upgraded, shapes):
            shutil.rmtree(aside, ignore_errors=True)
        return candidate.with_model(model, **decided, preset=self.preset, types=types)
