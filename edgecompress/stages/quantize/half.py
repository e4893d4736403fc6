"""Weights of 16 bits (fp16 or bf16): half the download everywhere, half the work on few processors.

``compute: float`` stores weights in half and computes in fp32: as fast as before, as ONNX Runtime
casts them once when it loads the model. ``compute: half`` computes in fp16, which is worth it where
the processor has fp16 arithmetic (ARMv8.2 and later): it is timed, and refused where it is slower.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from edgecompress.errors import StageError
from edgecompress.quantization.prove.judging import MOST_SAMPLES
from edgecompress.stage import Context, Decisions, Kind
from edgecompress.stages._fields.inputs import InputFiles
from edgecompress.stages._fields.judged import Judged, held
from edgecompress.values import Candidate, Json, OnnxModel, Step, find

if TYPE_CHECKING:
    from pathlib import Path

    from edgecompress.models.storage import StoredModel


class Half(InputFiles, Judged):
    """Store weights in fp16 or bf16, and compute in them where that is faster."""

    also_called: ClassVar[tuple[str, ...]] = ("fp16", "float16", "bf16", "bfloat16")
    accepts: ClassVar[tuple[Kind, ...]] = (OnnxModel,)
    yields: ClassVar[Kind] = OnnxModel

    dtype: Literal["fp16", "bf16"] = "fp16"
    """fp16 has 11 bits of precision and ends at 65504; bf16 has 8 bits and the range of fp32."""
    compute: Literal["float", "half"] = "float"
    """``float``: only the file is smaller. ``half``: arithmetic in fp16, too."""
    target: str = "local"
    """Where ``compute: half`` must be faster, as the recipe names it."""
    tolerance: float | None = Field(default=None, gt=0)
    """Largest absolute difference of the outputs that is accepted; stated in any case."""

    @model_validator(mode="after")
    def _has_kernels(self) -> Half:
        if self.dtype == "bf16" and self.compute == "half":
            raise ValueError(
                "ONNX Runtime's processors' kernels do not compute in bf16; "
                "take dtype: fp16, or compute: float"
            )
        return self

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was stored."""
        from edgecompress.report.words import plain

        kind, compute = step.parameters.get("dtype"), step.parameters.get("compute")
        if not isinstance(kind, str):
            return ""
        how = "and computed in it" if compute == "half" else "and computed in fp32"
        return f"Stored the weights as {plain(kind)} {how}."

    def decide(self, candidate: Candidate, context: Context) -> Decisions:
        """Write the model and compare its answers; with ``compute: half``, time it, too.

        Raises
        ------
        StageError
            When it answers otherwise, or computing in fp16 is not surely faster.
        """
        found = super().decide(candidate, context)
        if self.compute == "float":
            return found
        gain = self._gain(candidate, found.made.model, context)
        return replace(found, measured={**gain, **found.measured})

    def write(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Write the model with weights of 16 bits.

        Raises
        ------
        StageError
            When it answers otherwise, has nothing to halve, or has no kernels.
        """
        from edgecompress.models.inputs import onnx_model, parity_feeds
        from edgecompress.models.runner import answers
        from edgecompress.onnx_files import onnx_model_files
        from edgecompress.quantization.graphs.opset import with_opset
        from edgecompress.quantization.prove.proof import check_model
        from edgecompress.quantization.write.halves import LEAST_OPSET, check_halvable
        from edgecompress.tournament import worst_difference

        upgraded = context.scratch / "upgraded"
        source, stored, decided = with_opset(onnx_model(candidate), LEAST_OPSET, upgraded)
        check_halvable(stored)
        feeds = (
            list(self.given_data(candidate, source, MOST_SAMPLES).feeds())
            if self.inputs
            else parity_feeds(candidate, context.validation or context.train, source, context.seed)
        )
        expected = answers(source, feeds)
        model = OnnxModel(context.folder / "model" / "model.onnx", source.session)
        model.directory.mkdir(parents=True, exist_ok=True)
        decided |= self._write(source.path, model.path, held(decisions))
        try:
            check_model(model)
            found = answers(model, feeds)
        except StageError as error:
            advice = "; use compute: float" if self.compute == "half" else ""
            raise StageError(f"weights in {self.dtype}: {error}{advice}") from None
        worst = worst_difference(expected, found, feeds)
        if self.tolerance and worst > self.tolerance:
            limit = f"more than {self.tolerance:g}"
            raise StageError(f"in {self.dtype} the outputs differ by {worst:g}, {limit}")
        before, after = (
            sum(file.stat().st_size for file in onnx_model_files(each.path))
            for each in (onnx_model(candidate), model)
        )
        shutil.rmtree(upgraded, ignore_errors=True)
        return candidate.with_model(
            model,
            dtype=self.dtype,
            compute=self.compute,
            max_abs_difference=worst if isfinite(worst) else None,
            bytes_before=before,
            bytes_after=after,
            **decided,
        )

    def parts(self, stored: StoredModel) -> Sequence[str]:
        """Give the weights that are stored in half; none where all is computed in it."""
        from edgecompress.quantization.write.halves import halved_weights

        return halved_weights(stored) if self.compute == "float" else ()

    def _write(self, source: Path, target: Path, whole: Mapping[str, str]) -> dict[str, Any]:
        from edgecompress.models.storage import read_model, write_model
        from edgecompress.quantization.write.halves import compute_in_half, store_in_half

        if self.compute == "half":
            compute_in_half(source, target)
            return {}
        made = store_in_half(read_model(source), self.dtype, whole)
        write_model(made.model, target)
        return {"weights": len(made.weights), "left_in_fp32": made.left}

    def _gain(self, candidate: Candidate, half: OnnxModel, context: Context) -> Json:
        """Refuse what is not surely faster.

        Raises
        ------
        StageError
            With the ratio that was measured.
        """
        from edgecompress.models.inputs import onnx_model
        from edgecompress.tournament import round_json, sure_speedup, times

        context.progress(0, 1, "timing fp16 against fp32")
        models = [onnx_model(candidate), half]
        found = times(candidate, models, context, self.target)[1]
        if sure_speedup(found) > 1:
            return {"half": round_json(found)}
        speedup = find(found, "speedup")
        said = "was not timed" if speedup is None else f"is {speedup.value:.2f}x as fast as before"
        if speedup is not None and speedup.invalid:
            said += f" (not to be trusted: {speedup.invalid})"
        raise StageError(
            f"computing in fp16 {said} on {self.target}, no gain that is sure; use compute: float, "
            "which halves the file at the same speed"
        )
