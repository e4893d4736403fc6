"""``quantize.inc_auto``: Intel Neural Compressor's tuning; it ends with the best it has found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from edgecompress.errors import DataError
from edgecompress.stage import Context, Decisions, Kind
from edgecompress.stages._fields.inc import IncCalibration
from edgecompress.values import Candidate, Json, OnnxModel, Step, TorchModel

if TYPE_CHECKING:
    from edgecompress.quantization.inc.source import Source

Alpha = Annotated[float, Field(ge=0, le=1)] | Literal["auto"]


class IncAuto(IncCalibration):
    """Try Neural Compressor's schemes until one keeps the metric on validation; save the best.

    Tried in this order: static with both methods, dynamic, static after SmoothQuant, and then the
    most accurate of these with the layers in fp32 that lose most. Each is judged as the ONNX file
    that it becomes.
    """

    also_called: ClassVar[tuple[str, ...]] = ("neural-compressor",)
    accepts: ClassVar[tuple[Kind, ...]] = (TorchModel,)
    yields: ClassVar[Kind] = OnnxModel
    needs_data: ClassVar[bool] = True

    max_drop: float = Field(default=0.005, ge=0, lt=1)
    """How much of the task's metric may be lost, a fraction: 0.005 is half a point."""
    seconds: float = Field(default=1800, gt=0)
    """No further plan is tried after this time. The best so far is saved whatever happened."""
    schemes: tuple[Literal["static", "dynamic"], ...] = Field(
        default=("static", "dynamic"), min_length=1
    )
    """Which schemes to try."""
    smooth: tuple[Alpha, ...] = (0.5, "auto")
    """Alphas of SmoothQuant to try with the static scheme."""
    most_excluded: int = Field(default=4, ge=0)
    """Up to so many linear layers may stay fp32."""
    thorough: bool = False
    """Try everything, though one plan keeps the metric: of those that do, the one with the fewest
    layers in fp32 wins, and of these the most accurate."""
    judged_on: int | None = Field(default=None, ge=1)
    """How many validation examples to judge by; by default all."""

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was made integers."""
        from edgecompress import telling

        return telling.integers(step, telling.AT_RUN_TIME, telling.NEURAL_COMPRESSOR)

    def decide(self, candidate: Candidate, context: Context) -> Decisions:
        """Tune; the decision is the best plan.

        What was tried, with each plan's metric, stands in the step's ``measured``.

        Raises
        ------
        MissingExtraError
            When neural-compressor is not installed.
        DataError
            When there is nothing to calibrate with or to judge by.
        StageError
            When no plan works.
        """
        from edgecompress.determinism import torch_threads
        from edgecompress.quantization.inc.library import quiet

        if not context.validation:
            raise DataError(
                "quantize.inc_auto judges by validation examples, and there are none: give "
                "`validation` in `data`, or use quantize.inc_dynamic"
            )
        with quiet(), torch_threads(1):
            from edgecompress.quantization.inc.tuning import Ledger, Settings, Tuner

            settings = Settings(
                self.max_drop,
                self.seconds,
                self.schemes,
                self.smooth,
                self.most_excluded,
                self.thorough,
            )
            judged = tuple(context.validation)[: self.judged_on]
            source = self._source(candidate, context, force=self.force)
            tuner = Tuner(source, settings, judged, Ledger(context.scratch))
            best = tuner.run()
        ledger = tuner.ledger
        trial = ledger.trials[best]
        measured = {
            "metric": tuner.metric,
            "fp32": ledger.baseline,
            "score": trial.score,
            "kept": (trial.score or 0.0) >= tuner.goal,
            "examples": len(judged),
            "seconds": round(ledger.seconds, 1),
            "tried": [
                {
                    "plan": one.plan.name,
                    "exclude": list(one.plan.exclude),
                    "score": one.score,
                    "outcome": one.outcome,
                }
                for one in ledger.trials
            ],
        }
        made = (OnnxModel(ledger.path(best)), trial.decisions)
        return Decisions({"chosen": trial.plan.to_json()}, measured, made)

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Give the best model that was tried, or quantize by its plan again; nothing is judged.

        Decisions name what is int8.

        Raises
        ------
        MissingExtraError
            When neural-compressor is not installed.
        StageError
            When the record holds no plan.
        """
        import shutil

        from edgecompress.determinism import torch_threads
        from edgecompress.quantization.inc.library import quiet

        path = context.folder / "model" / "model.onnx"
        measured: Json = {}
        if decisions.made is not None:
            model, found = decisions.made
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model.path, path)
            measured["answers"] = found.get("answers", {})
        else:
            with quiet(), torch_threads(1):
                from edgecompress.quantization.inc.config import IncConfig

                plan = IncConfig.from_json(decisions.record.get("chosen"))
                source = self._source(candidate, context, force=True)
                _, found = source.quantize(plan, path)
        found = {name: value for name, value in found.items() if name != "answers"}
        return candidate.with_model(OnnxModel(path), measured=measured, **found)

    def _source(self, candidate: Candidate, context: Context, *, force: bool) -> Source:
        from edgecompress.quantization.inc.source import Source

        examples = self._examples(context)
        bits, block = self.embedding_bits, self.embedding_block
        return Source(candidate, context, examples, bits, block, force)
