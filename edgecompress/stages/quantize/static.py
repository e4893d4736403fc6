"""Quantize an ONNX model to int8 with activation ranges measured beforehand on real inputs.

QDQ pairs stand around the inputs of linear layers, and around convolutions and what lies between
them; embeddings become int8 tables. ONNX Runtime runs all with its integer kernels. The attention
mask's bias, softmax and residuals stay in fp32.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from edgecompress.errors import StageError
from edgecompress.quantization.observe.calibration_data import seen_on
from edgecompress.quantization.plan.presets import IntegerType
from edgecompress.stage import Context, Decisions, Kind
from edgecompress.stages._fields.inputs import CalibrationFields
from edgecompress.stages._fields.judged import Judged, held
from edgecompress.stages._fields.linear_types import LinearTypes
from edgecompress.stages._fields.tables import TableTypes
from edgecompress.values import Candidate, Json, OnnxModel, Step, json_digest

if TYPE_CHECKING:
    from edgecompress.models.storage import StoredModel
    from edgecompress.quantization.observe.calibration_data import CalibrationData
    from edgecompress.quantization.plan.quant_plan import QuantPlan
    from edgecompress.quantization.prove.proven import Planned

PROOF_SAMPLES = 2
"""Of given inputs, so many show what runs as int8; a graph's own inputs cannot be made up."""


class Static(CalibrationFields, LinearTypes, TableTypes, Judged):
    """Int8 weights and activations, with ranges from calibration examples."""

    also_called: ClassVar[tuple[str, ...]] = ("int8", "ptq", "qdq", "calibration")
    accepts: ClassVar[tuple[Kind, ...]] = (OnnxModel,)
    yields: ClassVar[Kind] = OnnxModel
    needs_data: ClassVar[bool] = True

    method: Literal["minmax", "average", "percentile", "entropy", "mse"] = "minmax"
    """How a range is found among the values that were seen. ``minmax`` keeps them all; ``average``
    takes the samples' mean lowest and highest; ``mse`` clips where the squared error is least;
    ``percentile`` and ``entropy`` clip more, which costs accuracy where a few channels are always
    large, as in LayerNorm's outputs (on a MiniLM tagger ``entropy`` lost 7 points of F1 and
    ``minmax`` 0.2)."""
    percentile: float = Field(default=99.99, gt=50, le=100)
    """For the method of that name: how many per cent of the values a range covers."""
    activation: IntegerType = "uint8"
    """uint8 uses its whole range and is fast everywhere; int8 is symmetric, twice as far from fp32
    and three times slower on x86."""
    exclude: tuple[str, ...] = ()
    """Names of nodes or weights that stay fp32."""
    ranges: Literal["calibrated", "qat"] = "calibrated"
    """Measured on examples, or as an earlier stage with the field `qat` has learned them: then no
    example is read, and layers that `qat` excludes stay fp32."""

    equalize: bool = False
    """First even out the channels between convolutions, in fp32 and without changing an answer:
    for weights of one scale (`per_channel: false`)."""
    bias_correction: bool = True
    """Give each convolution's bias what rounding the weights takes from the mean of its answers."""

    @model_validator(mode="after")
    def _calibrates_once(self) -> Self:
        if self.ranges == "qat" and self.equalize:
            raise ValueError("ranges: qat are those of the weights as they are; leave equalize out")
        if self.ranges == "qat" and (self.inputs or self.calibration or self.samples):
            raise ValueError("ranges: qat calibrates nothing; leave calibration data out")
        return self

    def reads_examples(self) -> bool:
        """Whether ranges come from examples: not from files, and not from training."""
        return super().reads_examples() and self.ranges == "calibrated"

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was made integers."""
        from edgecompress import telling

        learned = step.parameters.get("ranges") == "qat"
        ranges = "activation ranges learned in training" if learned else telling.calibrated(step)
        return telling.integers(step, ranges)

    def write(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Calibrate, write the quantized model and prove what runs as int8.

        Raises
        ------
        StageError
            When there is nothing to calibrate with, or the model cannot be quantized.
        DataError
            When the calibration set is unknown or malformed.
        """
        from edgecompress.models.inputs import onnx_model
        from edgecompress.models.storage import read_model
        from edgecompress.quantization.graphs.opset import with_opset
        from edgecompress.quantization.graphs.shapes import with_known_shapes
        from edgecompress.quantization.plan.checks import check_quantizable
        from edgecompress.quantization.plan.planning import ready
        from edgecompress.quantization.plan.scheme import LEAST_OPSET
        from edgecompress.quantization.prove.proven import write_proven

        upgraded = context.scratch / "upgraded"
        least = LEAST_OPSET["static"]
        source, stored, decided = with_opset(onnx_model(candidate), least, upgraded)
        source, stored = with_known_shapes(source, stored, context.scratch / "shapes")
        check_quantizable(stored, self.exclude)
        if self.equalize:
            source, stored, evened = self._equalized(candidate, source, decisions.record, context)
            decided |= evened
        planned: Planned | QuantPlan | None = self._recorded(stored, decisions.record)
        if planned is not None:
            decided |= {key: decisions.record[key] for key in ("calibrated_on", "ranges")}
        else:
            planned, observed = self._observe(candidate, source, stored, held(decisions), context)
            decided |= observed
        feeds = None
        if self.inputs:
            given = self.given_data(candidate, source, self.samples)
            feeds = list(islice(given.feeds(), PROOF_SAMPLES))
        model = OnnxModel(context.folder / "model" / "model.onnx", source.session)
        proven = write_proven(
            lambda: ready(read_model(source.path), static=True), planned, model, feeds
        )
        for aside in (upgraded, context.scratch / "shapes", context.scratch / "equalized"):
            shutil.rmtree(aside, ignore_errors=True)
        plan = proven.plan.to_json(decided["ranges"]) | {"fields": self._fields_digest()}
        decided |= proven.to_json() | {"plan": plan}
        decided |= {"preset": self.preset, "types": self.types_json(self.activation)}
        return candidate.with_model(model, **decided)

    def _fields_digest(self) -> str:
        """Digest of the fields that a plan hangs on; the data behind names are not among them."""
        places = {"inputs", "preprocessor", "calibration", "force"}
        return json_digest(self.model_dump(mode="json", exclude=places))[:16]

    def _recorded(self, stored: StoredModel, record: Json) -> QuantPlan | None:
        """Give the plan by which the model was first made; None where fields or graph are others.

        Raises
        ------
        StageError
            When the record is malformed.
        """
        from edgecompress.quantization.plan.checks import is_plan_of
        from edgecompress.quantization.plan.planning import ready
        from edgecompress.quantization.plan.quant_plan import QuantPlan

        if not {"plan", "ranges", "calibrated_on"} <= record.keys():
            return None  # of an older edition
        plan = QuantPlan.from_json(record["plan"], record["ranges"])
        fits = record["plan"].get("fields") == self._fields_digest()
        return plan if fits and is_plan_of(plan, ready(stored, static=True)) else None

    def _observe(
        self,
        candidate: Candidate,
        source: OnnxModel,
        stored: StoredModel,
        in_fp32: Mapping[str, str],
        context: Context,
    ) -> tuple[Planned, Json]:
        """Find the ranges; give what plans by them, and what is recorded of them."""
        from edgecompress.quantization.observe.learned import learned_for
        from edgecompress.quantization.observe.ranges import find_ranges, ranges_json, unfit_tensors
        from edgecompress.quantization.plan.checks import linear_inputs
        from edgecompress.quantization.plan.planning import plan_of
        from edgecompress.quantization.plan.scheme import Scheme
        from edgecompress.quantization.write.bias_correction import bias_corrections

        exclude, count = frozenset(self.exclude), 0
        unlearned: dict[str, str] = {}
        unfit: dict[str, str] = {}
        means: dict[str, Any] = {}
        if self.ranges == "qat":
            ranges, unlearned = learned_for(stored, candidate.ranges)
            exclude |= frozenset(unlearned)
        else:
            data = self.calibration_data(candidate, source, context)
            seen = seen_on(data, source, linear_inputs(stored, exclude), context)
            ranges = find_ranges(seen, self.method, self.percentile)
            unfit, count = unfit_tensors(seen), data.count
            means = self._means(data, source, stored, context)
        scheme = Scheme(
            **self.weight_types(),
            **self.table_types(),
            exclude=exclude,
            ranges=ranges,
            unfit=unfit,
            held=in_fp32,
            signed_activations=self.activation == "int8",
            share=self.ranges != "qat",  # training has rounded the table with one scale
        )

        def planned(graph: StoredModel, missed: frozenset[str]) -> QuantPlan:
            plan = plan_of(graph, replace(scheme, as_integers=missed))
            if means:
                plan = replace(plan, corrections=bias_corrections(graph, plan, means))
            told = {node: unlearned[node] for node in plan.left if node in unlearned}
            return replace(plan, left={**plan.left, **told})

        return planned, {"calibrated_on": count, "ranges": ranges_json(ranges)}

    def _means(
        self, data: CalibrationData, source: OnnxModel, stored: StoredModel, context: Context
    ) -> dict[str, Any]:
        """Give the mean of each channel that a convolution is given, by tensor."""
        from edgecompress.quantization.observe.feature_maps import maps_on
        from edgecompress.quantization.write.bias_correction import corrected_layers

        layers = corrected_layers(stored) if self.bias_correction else []
        names = list(dict.fromkeys(layer.data for layer in layers))
        found = maps_on(data, source, names, context) if names else {}
        return {name: one.mean for name, one in found.items()}

    def _equalized(
        self, candidate: Candidate, source: OnnxModel, record: Json, context: Context
    ) -> tuple[OnnxModel, StoredModel, Json]:
        """Even out the channels between layers; give the model that was written, and the record.

        Raises
        ------
        StageError
            When nothing can be evened out, the answers change, or the record is of another model.
        """
        from edgecompress.models.storage import read_model, write_model
        from edgecompress.quantization.graphs.channel_pairs import find_pairs
        from edgecompress.quantization.observe.feature_maps import maps_on
        from edgecompress.quantization.plan.planning import ready
        from edgecompress.quantization.prove.sameness import check_same
        from edgecompress.quantization.write import equalize

        stored = ready(read_model(source.path), static=True)
        pairs = find_pairs(stored, frozenset(self.exclude))
        if not pairs:
            raise StageError(
                "equalize finds no two layers that follow each other through a ReLU or the like, "
                "read by nobody else; leave it out"
            )
        same = record.get("plan", {}).get("fields") == self._fields_digest()
        known, data = record.get("equalized") if same else None, None
        if known is None:
            data = self.calibration_data(candidate, source, context)
            seen = maps_on(data, source, [pair.between for pair in pairs], context)
            most = {name: one.most for name, one in seen.items()}
            pairs = [pair for pair in pairs if len(most.get(pair.between, ())) == pair.channels]
            exponents = equalize.equalizing_exponents(stored, pairs, most)
        else:
            exponents = equalize.exponents_from(known)
        equalize.equalize(stored, pairs, exponents)
        made = OnnxModel(context.scratch / "equalized" / "model.onnx", source.session)
        made.directory.mkdir(parents=True, exist_ok=True)
        write_model(stored, made.path)
        if data is not None:
            check_same(source, made, data, "equalize", f"{self.stage_name()}'s field equalize")
        return made, read_model(made.path), {"equalized": equalize.exponents_json(exponents)}
