"""Quantize an ONNX model as far as a budget of accuracy allows, by trying and timing real models.

All int8 comes first; where that loses too much, the layers that cost most go back to fp32, as few
as possible and each with its reason. Then 4-bit tables, and forms that were measured to be faster.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import Field

from edgecompress.errors import StageError
from edgecompress.stage import Context, Decisions, Kind
from edgecompress.stages._fields.judged import Judged
from edgecompress.stages._fields.linear_types import LinearTypes
from edgecompress.values import Candidate, Example, Json, Measurement, OnnxModel, Step

if TYPE_CHECKING:
    from edgecompress.models.outputs import ComparedSamples
    from edgecompress.models.storage import StoredModel
    from edgecompress.quantization.plan.scheme import Scheme
    from edgecompress.quantization.search.sensitivity import Item
    from edgecompress.quantization.search.trials import Trials
    from edgecompress.quantization.search.units import Form, Unit

RANDOM_SAMPLES = 16
ERROR_WITHOUT_TASK = 0.01
"""The budget where there is neither a task nor `max_error`: a hundredth of the variance."""


class Auto(LinearTypes, Judged):
    """The fastest int8 model within a budget of accuracy: int8 or fp32 chosen for each layer."""

    also_called: ClassVar[tuple[str, ...]] = ("mixed", "mixed-precision", "autotune")
    accepts: ClassVar[tuple[Kind, ...]] = (OnnxModel,)
    yields: ClassVar[Kind] = OnnxModel

    max_drop: float = Field(default=0.003, ge=0)
    """How much of the task's metric may be lost on validation against this model in fp32: 0.003 is
    0.3 points."""
    max_error: float | None = Field(default=None, gt=0)
    """How large the outputs' squared error may be, as a share of their variance; without a task
    0.01 when left out."""
    forms: tuple[Literal["dynamic", "static"], ...] = ("dynamic", "static")
    """What is tried for linear layers beside fp32; static needs training examples."""
    embedding_bits: tuple[Literal[4, 8], ...] = (8, 4)
    """What is tried for tables; empty leaves them fp32."""
    embedding_block: Literal[16, 32, 64, 128] = 32
    """Values that share a scale of 16 bits in tables of 4 bits."""
    most_fp32: float = Field(default=0.5, ge=0, le=1)
    """Largest share of the linear layers that may go back to fp32 because of what they cost."""
    seconds: float = Field(default=900, gt=0)
    """Time limit; the best model found by then is given."""
    samples: int | None = Field(default=None, ge=1)
    """How many validation examples models are judged on; all of them when left out."""
    ranking_samples: int = Field(default=64, ge=1)
    """How many of them layers are ranked on."""
    calibration: str | None = None
    """For static: a calibration set by name, or the path of its YAML file."""
    calibration_samples: int | None = Field(default=None, ge=1)
    """For static: how many training examples; by default what the calibration set says, or 128."""
    method: Literal["minmax", "average", "percentile", "entropy", "mse"] = "minmax"
    """For static: how a range is found, as in quantize.static."""
    exclude: tuple[str, ...] = ()
    """Names of nodes or weights that stay fp32."""

    def check_inputs(self) -> None:
        """Check that the calibration set is there."""
        from edgecompress.data.calibration import load_calibration

        if self.calibration:
            load_calibration(self.calibration)

    def identity(self) -> Json:
        """Give the parameters with the calibration set's digest in its name's place."""
        from edgecompress.data.calibration import load_calibration

        found = self.model_dump(mode="json")
        if self.calibration:
            found["calibration"] = load_calibration(self.calibration).digest
        return found

    def parts(self, stored: StoredModel) -> Sequence[str]:
        """No weight can be held: the search itself decides which layers are in fp32."""
        return ()

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was made integers."""
        from edgecompress import telling

        both = "activation ranges from training examples or found anew, layer by layer"
        return telling.integers(step, both if step.decisions.get("ranges") else telling.AT_RUN_TIME)

    def choose(self, candidate: Candidate, context: Context) -> Decisions:
        """Search; decisions name the form of each layer, and what was tried is measured.

        Raises
        ------
        StageError
            When the model is quantized already, has nothing to quantize, or cannot be judged.
        DataError
            When the calibration set is unknown or malformed.
        """
        checked = self._checked(candidate, context)
        return replace(_Work(self, *checked, context).run(), made=checked)

    def write(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Write the model whose forms were decided, and prove what runs as int8.

        Raises
        ------
        StageError
            When the record is of another model or recipe.
        """
        from edgecompress.quantization.prove.proof import check_model, coverage
        from edgecompress.quantization.search.mixed import write_mixed
        from edgecompress.quantization.search.units import Assignment

        candidate, source, units, scheme = decisions.made or self._checked(candidate, context)
        forms, kept, ranges, unfit = self._followed(decisions.record, units)
        target = context.folder / "model" / "model.onnx"
        scheme = replace(scheme, unfit=unfit)
        model, found = write_mixed(source, Assignment(forms), scheme, ranges, target)
        check_model(model)
        shown = (found or coverage(model)).to_json(kept)
        return candidate.with_model(
            model, **shown, preset=self.preset, types=self.types_json("uint8")
        )

    def _checked(
        self, candidate: Candidate, context: Context
    ) -> tuple[Candidate, OnnxModel, Sequence[Unit], Scheme]:
        """Give the model in an operator set that is new enough, its layers, and the types."""
        from edgecompress.models.inputs import onnx_model
        from edgecompress.quantization.graphs.opset import with_opset
        from edgecompress.quantization.graphs.shapes import with_known_shapes
        from edgecompress.quantization.plan.checks import check_excluded
        from edgecompress.quantization.plan.scheme import LEAST_OPSET, Scheme
        from edgecompress.quantization.search.sensitivity import check_float
        from edgecompress.quantization.search.units import find_units

        check_float(onnx_model(candidate))
        source, stored, _ = with_opset(
            onnx_model(candidate), LEAST_OPSET["static"], context.scratch / "upgraded"
        )
        source, stored = with_known_shapes(source, stored, context.scratch / "shapes")
        check_excluded(stored, self.exclude)
        units = find_units(stored)
        if not units:
            raise StageError(f"{source.path.name} has no layer that can be quantized")
        scheme = Scheme(**self.weight_types(), embedding_block=self.embedding_block)
        return replace(candidate, model=source), source, units, scheme

    def _followed(
        self, record: Json, units: Sequence[Unit]
    ) -> tuple[dict[str, Form], Json, dict[str, tuple[float, float]], dict[str, str]]:
        """Read forms, layers in fp32, ranges and tensors that none holds from a record."""
        try:
            forms = {str(name): cast("Form", form) for name, form in record["forms"].items()}
            kept = {str(name): str(why) for name, why in record["fp32"].items()}
            ranges = {str(k): (float(v[0]), float(v[1])) for k, v in record["ranges"].items()}
            unfit = {str(k): str(v) for k, v in record.get("unfit", {}).items()}
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            raise StageError(
                "quantize.auto has no record of what it chose; run the recipe again"
            ) from None
        bits = {f"int{count}" for count in self.embedding_bits}
        if forms.keys() != {unit.name for unit in units}:
            raise StageError("the record of quantize.auto is of a model with other layers")
        if not set(forms.values()) <= {*self.forms, *bits, "fp32"}:
            raise StageError("the record of quantize.auto has forms that this recipe rules out")
        return forms, kept, ranges, unfit


class _Work:
    """One search: what models are judged on, and what is known so far."""

    def __init__(
        self,
        stage: Auto,
        candidate: Candidate,
        source: OnnxModel,
        units: Sequence[Unit],
        scheme: Scheme,
        context: Context,
    ) -> None:
        self.stage, self.candidate, self.source = stage, candidate, source
        self.units, self.scheme, self.context = units, scheme, context
        self.notes: list[str] = []
        self.ranges: dict[str, tuple[float, float]] = {}
        self.samples = self._samples(stage.samples)

    def run(self) -> Decisions:
        """Search, and give what was found."""
        from edgecompress.quantization.observe.ranges import ranges_json
        from edgecompress.quantization.plan.scheme import EXCLUDED, NOT_ASKED
        from edgecompress.quantization.search.mixed import named, starting_point
        from edgecompress.quantization.search.search import Search

        stage = self.stage
        forms = self._forms()
        trials = self._trials()
        tables = bool(stage.embedding_bits)
        starts = {
            form: starting_point(self.units, form, tables=tables, exclude=stage.exclude)
            for form in forms
        }
        if set(stage.embedding_bits) == {4}:
            small = [u.name for u in self.units if u.takes_int4(stage.embedding_block)]
            kept = [name for name in small if starts[forms[0]].forms[name] == "int8"]
            starts = {form: start.put(kept, "int4") for form, start in starts.items()}
        linears = sum(not unit.is_table for unit in self.units)
        search = Search(
            trials,
            self.units,
            starts,
            lambda form: self._sensitivity(form, trials),
            int(stage.most_fp32 * linears),
            four_bits={4, 8} <= set(stage.embedding_bits),
        )
        outcome = search.run()
        best = outcome.best
        timed = trials.time([None, best.assignment], must=True)
        if not best.assignment.having("static"):
            self.ranges = {}
            self.scheme = replace(self.scheme, unfit={})
        said = trials.budget.say(best.cost, self.samples.metric)
        reasons = {
            unit.name: EXCLUDED if named(unit, stage.exclude) else NOT_ASKED["table"]
            for unit in self.units
            if starts[forms[0]].forms[unit.name] == "fp32"
        }
        state = "pass" if best.passes else "fail"
        if not best.passes:
            said = f"no model that was tried keeps the budget; of the nearest {said}"
        decided = {
            "forms": best.assignment.to_json(),
            "fp32": {
                name: outcome.reasons.get(name) or reasons.get(name) or "tried on the way"
                for name in best.assignment.having("fp32")
            },
            "verdict": {"state": state, "reason": said},
            "metric": self.samples.metric,
            "judged_on": len(self.samples.feeds),
            "ranges": ranges_json(self.ranges),
            "notes": self.notes + outcome.notes,
        }
        if self.scheme.unfit:
            decided["unfit"] = dict(self.scheme.unfit)
        measured = {
            "tried": [
                {
                    "what": one.why,
                    "forms": one.assignment.to_json(),
                    "drop": one.cost.drop,
                    "error": one.cost.error,
                    "kl": one.cost.kl,
                    "size_bytes": one.size_bytes,
                    "passes": one.passes,
                }
                for one in trials.tried.values()
            ],
            "times": list(trials.saved["times"].values()),
            "speedup": timed[1].gain if timed[1] else None,
            "saves_ms": search.ms,
            "sensitivity": outcome.sensitivity,
            "reference": trials.judge.reference,
            "seconds": round(trials.elapsed, 1),
        }
        shutil.rmtree(self.context.folder / "trials", ignore_errors=True)
        return Decisions(decided, measured)

    def _forms(self) -> list[Form]:
        """Give the forms that can be tried; for static, calibrate."""
        if not self.stage.forms:
            raise StageError("quantize.auto has no form to try; set forms: [dynamic]")
        forms: list[Form] = [form for form in self.stage.forms if form == "dynamic"]
        if "static" in self.stage.forms:
            from edgecompress.tasks import takes_examples

            if self.context.train and takes_examples(self.candidate):
                self.ranges, unfit = self._calibrated()
                self.scheme = replace(self.scheme, unfit=unfit)
                forms.append("static")
            elif not forms:
                raise StageError(
                    "quantize.auto measures static ranges on training examples, and there are "
                    "none: give `data`, or set forms: [dynamic]"
                )
            else:
                self.notes.append("static was left out: there are no training examples")
        return forms

    def _trials(self) -> Trials:
        from edgecompress.models.outputs import OutputJudge
        from edgecompress.models.runner import open_onnx
        from edgecompress.quantization.search.trials import Budget, Trials

        self.context.progress(0, self.stage.seconds, "fp32")
        judge = OutputJudge(self.samples, open_onnx(self.source).values)
        labelled = judge.reference is not None
        error = self.stage.max_error
        if not labelled and error is None:
            error = ERROR_WITHOUT_TASK
        budget = Budget(self.stage.max_drop if labelled else None, error)
        return Trials(
            self.source, self.scheme, self.ranges, judge, budget, self._measure,
            self.context.scratch, self.context.folder / "trials", self.stage.seconds,
            self.context.progress,
        )  # fmt: skip

    def _measure(self, models: Sequence[OnnxModel]) -> list[tuple[Measurement, ...]]:
        from edgecompress.tournament import times

        return times(self.candidate, models, self.context)

    def _samples(self, count: int | None) -> ComparedSamples:
        """Give what models are judged on: validation examples, or made-up inputs without a task."""
        from edgecompress.models.graph import signature
        from edgecompress.models.inputs import encode_rows, typed_feed
        from edgecompress.models.outputs import ComparedSamples, judged
        from edgecompress.models.synthetic import made_feeds
        from edgecompress.tasks import takes_examples

        specs = signature(self.source)
        if not takes_examples(self.candidate):
            self.notes.append("there is no task, so that made-up inputs were compared")
            return ComparedSamples(
                tuple(
                    made_feeds(
                        self.source,
                        ((1, 4 + 4 * (number % 6)) for number in range(count or RANDOM_SAMPLES)),
                    )
                )
            )
        examples = self._chosen(count)
        rows = encode_rows(self.candidate, examples)
        if rows is None:
            raise StageError(
                "quantize.auto judges models on validation examples, and there are none: give "
                "`data.validation`, or use quantize.dynamic"
            )
        feeds = tuple(typed_feed(rows, [row], specs) for row in range(len(rows.lengths)))
        return ComparedSamples(feeds, rows, judged(rows, examples), self.candidate.labels)

    def _chosen(self, count: int | None) -> Sequence[Example]:
        from edgecompress.data.sample import stratified_sample

        every = self.context.validation
        places = stratified_sample(every, count or len(every), self.context.seed)
        return [every[place] for place in places]

    def _sensitivity(self, form: Form, trials: Trials) -> list[Item]:
        """Measure what each layer costs alone, on fewer examples."""
        from edgecompress.quantization.search.sensitivity import measure

        count = min(self.stage.ranking_samples, len(self.samples.feeds))
        fewer = self.samples
        if self.samples.rows is not None:
            fewer = self._samples(count)
        scheme = replace(self.scheme, ranges=self.ranges) if form == "static" else self.scheme
        items, _ = measure(
            self.source,
            fewer,
            scheme,
            self.context.scratch / f"sensitivity-{form}",
            parts=("both", "int8"),
            progress=self.context.progress,
            ended=lambda: trials.ended,
        )
        return items

    def _calibrated(self) -> tuple[dict[str, tuple[float, float]], dict[str, str]]:
        """Measure ranges in the pass that quantize.static makes, too, rounded as recorded.

        Also give the tensors that no range holds, and why.
        """
        from edgecompress.models.graph import signature
        from edgecompress.quantization.observe.calibration_data import example_data, seen_on
        from edgecompress.quantization.observe.ranges import find_ranges, ranges_json, unfit_tensors

        stage, context, source = self.stage, self.context, self.source
        data = example_data(
            stage.stage_name(), stage.calibration, stage.calibration_samples, self.candidate,
            context, signature(source),
        )  # fmt: skip
        names = list(dict.fromkeys(name for unit in self.units for name in unit.inputs))
        seen = seen_on(data, source, names, context)
        found = ranges_json(find_ranges(seen, stage.method))
        return {name: (low, high) for name, (low, high) in found.items()}, unfit_tensors(seen)
