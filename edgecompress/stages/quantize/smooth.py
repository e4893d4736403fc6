"""SmoothQuant: move outliers of activations into weights, so that 8 bits lose less of both.

ONNX in, fp32 ONNX out; a quantization follows. Factors are powers of two, so the fp32 model
answers as before. They are folded into what stands before a layer where that costs nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from edgecompress.errors import StageError
from edgecompress.quantization.observe.calibration_data import CalibrationData
from edgecompress.stage import Context, Decisions, Kind
from edgecompress.stages._fields.inputs import CalibrationFields
from edgecompress.stages._fields.judged import Judged
from edgecompress.values import Candidate, Json, OnnxModel, Step

if TYPE_CHECKING:
    from edgecompress.models.storage import StoredModel
    from edgecompress.quantization.graphs.folding import Group
    from edgecompress.quantization.observe.channels import Channels
    from edgecompress.quantization.write.smooth import Choice


class Smooth(CalibrationFields, Judged):
    """Divide the inputs of linear layers by a factor per channel, and multiply their weights."""

    also_called: ClassVar[tuple[str, ...]] = ("smoothquant",)
    accepts: ClassVar[tuple[Kind, ...]] = (OnnxModel,)
    yields: ClassVar[Kind] = OnnxModel
    needs_data: ClassVar[bool] = True

    alpha: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = "auto"
    """How much of the unevenness moves into the weights: 0 none of the activations', 1 all of it.
    ``auto`` finds for each layer the one, among 0.3 to 0.9, that loses least in int8, and leaves a
    layer alone that gains nothing."""
    block: Literal[16, 32, 64, 128] | None = None
    """With `alpha: auto`: what is tried is rounded as `quantize.weights` rounds with
    `linear_bits: 8` and this `linear_block`, weights and inputs with a scale for each block;
    else as `quantize.static` and `quantize.dynamic` do."""
    multiply: bool = False
    """Smooth also where no constant takes the factors, by a Mul before the layer: behind GELU, and
    where a residual connection reads the same normalization (as all of BERT's do)."""
    tables: bool = False
    """Smooth a layer whose weight is the table of embeddings, too: its columns are multiplied, and
    rows that are looked up are divided by a Mul. For `quantize.weights`, where a table has scales
    of its own for each block; with one scale for all it would lose by it."""
    exclude: tuple[str, ...] = ()
    """Names of nodes or weights whose layers stay as they are."""

    @model_validator(mode="after")
    def _block_is_for_a_search(self) -> Smooth:
        if self.block is not None and self.alpha != "auto":
            raise ValueError("block says how alpha: auto judges; leave it out beside a number")
        return self

    def leaves_quantizing(self) -> bool:
        """Quantizing follows: this stage leaves all in fp32."""
        return True

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was smoothed."""
        alphas = step.decisions.get("alphas")
        if not isinstance(alphas, dict) or not alphas:
            return "Smoothed nothing: no linear layer's input could take a factor."
        inputs = "the input" if len(alphas) == 1 else f"{len(alphas)} inputs"
        return (
            f"Moved the largest values of {inputs} of linear layers into the weights (SmoothQuant)."
        )

    def choose(self, candidate: Candidate, context: Context) -> Decisions:
        """Measure channels, and choose the alpha of each layer that gains by it.

        Raises
        ------
        StageError
            When the model is quantized already or has no layer that can be smoothed, there is
            nothing to calibrate with, or an activation is not finite.
        DataError
            When the calibration set or files of inputs are missing or malformed.
        """
        from edgecompress.quantization.observe.channels import one_thread

        work = _Work(self, candidate, context)
        with one_thread():
            choices = self._alphas(work, context)
        return Decisions(
            {"alphas": {n: one.alpha for n, one in choices.items() if one.alpha is not None}},
            {"errors": {name: [one.plain_error, one.error] for name, one in choices.items()}},
            made=work,
        )

    def write(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Write the smoothed model and compare its fp32 answers.

        Raises
        ------
        StageError
            When the answers change, or the record is of another model.
        DataError
            When the calibration set or files of inputs are missing or malformed.
        """
        from edgecompress.models.storage import write_model
        from edgecompress.quantization.prove.proof import check_model
        from edgecompress.quantization.prove.sameness import check_same
        from edgecompress.quantization.write.smooth import smooth

        work = decisions.made or _Work(self, candidate, context)
        alphas = _recorded(decisions.record, work.groups)
        model = OnnxModel(context.folder / "model" / "model.onnx", work.source.session)
        model.directory.mkdir(parents=True, exist_ok=True)
        write_model(smooth(work.stored, work.groups, _factors(work, alphas)), model.path)
        check_model(model)
        named = (work.source, model, work.data, "smoothing", self.stage_name())
        difference = check_same(*named)
        for aside in (work.upgraded, work.shapes):
            shutil.rmtree(aside, ignore_errors=True)
        return candidate.with_model(
            model,
            measured={"max_relative_difference": difference},
            folded=[g.data for g in work.groups if g.folds and alphas[g.data] is not None],
            multiplied=[g.data for g in work.groups if not g.folds and alphas[g.data] is not None],
            left={
                **work.left,
                **{n: "gains nothing" for n, alpha in alphas.items() if alpha is None},
            },
            calibrated_on=work.data.count,
            **work.upgrade,
        )

    def parts(self, stored: StoredModel) -> Sequence[str]:
        """No weight can be held: the answers must not change at all."""
        return ()

    def _alphas(self, work: _Work, context: Context) -> dict[str, Choice]:
        from edgecompress.quantization.write.smooth import (
            ALPHAS,
            Choice,
            choose_alpha,
            group_weight,
        )

        found = {}
        for number, group in enumerate(work.groups):
            context.progress(number, len(work.groups), "alphas")
            if self.alpha == "auto":
                weight = group_weight(work.stored, group)
                found[group.data] = choose_alpha(work.seen[group.data], weight, ALPHAS, self.block)
            else:
                found[group.data] = Choice(self.alpha, 0.0, 0.0)
        return found


class _Work:
    """The graph, the groups of its layers that can be smoothed, and what was seen of their inputs.

    Raises
    ------
    StageError
        When there is nothing to smooth, or nothing to calibrate with.
    """

    def __init__(self, stage: Smooth, candidate: Candidate, context: Context) -> None:
        from edgecompress.models.inputs import onnx_model
        from edgecompress.quantization.graphs.opset import with_opset
        from edgecompress.quantization.graphs.shapes import with_known_shapes
        from edgecompress.quantization.plan.checks import check_excluded
        from edgecompress.quantization.plan.scheme import LEAST_OPSET
        from edgecompress.quantization.write.smooth import refused_groups, smoothable

        self.upgraded = context.scratch / "upgraded"
        self.source, self.stored, self.upgrade = with_opset(
            onnx_model(candidate), LEAST_OPSET["static"], self.upgraded
        )
        self.shapes = context.scratch / "shapes"
        self.source, self.stored = with_known_shapes(self.source, self.stored, self.shapes)
        exclude = frozenset(stage.exclude)
        check_excluded(self.stored, exclude)
        self.groups: Sequence[Group] = smoothable(
            self.stored, exclude, multiply=stage.multiply, tables=stage.tables
        )
        self.left = refused_groups(self.stored, self.groups)
        if not self.groups:
            _refuse(self.left)
        self.data: CalibrationData = stage.calibration_data(candidate, self.source, context)
        self.seen = self._channels(context)

    def _channels(self, context: Context) -> dict[str, Channels]:
        """Give what a pass over the samples saw; kept, so that another alpha costs none."""
        from edgecompress.onnx_files import model_digests
        from edgecompress.quantization.observe.channels import (
            collect_channels,
            load_channels,
            save_channels,
            stream,
        )
        from edgecompress.quantization.observe.observing import observing

        names, data = [group.data for group in self.groups], self.data

        def build(folder: Any) -> None:
            with observing(self.source, names, context.scratch / "observed") as observed:
                samples = stream(
                    observed,
                    names,
                    data.feeds(),
                    progress=lambda done: context.progress(done, data.count, "channels"),
                )
                save_channels(collect_channels(samples, data.count), folder / "channels.npz")

        key = {
            "kind": "channels",
            "model": model_digests(self.source),
            "tensors": names,
            **data.key,
        }
        return load_channels(context.cached(key, build) / "channels.npz")


def _refuse(left: Mapping[str, str]) -> None:
    reasons = list(dict.fromkeys(left.values()))
    if not reasons:
        raise StageError(
            "quantize.smooth found no fp32 linear layer: smooth the model before it is quantized"
        )
    raise StageError(
        f"quantize.smooth can fold nothing into this model ({reasons[0]}); set multiply: true to "
        "smooth by a Mul before each layer, or leave the stage out"
    )


def _recorded(recorded: Json, groups: Sequence[Group]) -> dict[str, float | None]:
    try:
        found = {str(name): float(alpha) for name, alpha in recorded["alphas"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise StageError(
            "quantize.smooth has no record of its alphas; run the recipe again"
        ) from None
    known = {group.data for group in groups}
    for name in found:
        if name not in known:
            raise StageError(f"the record smooths {name}, which this model or recipe rules out")
    return {name: found.get(name) for name in known}


def _factors(work: _Work, alphas: Mapping[str, float | None]) -> dict[str, Any]:
    from edgecompress.quantization.write.smooth import group_weight, smoothing_factors

    found = {}
    for group in work.groups:
        alpha = alphas[group.data]
        if alpha is not None:
            most = work.seen[group.data].most
            found[group.data] = smoothing_factors(most, group_weight(work.stored, group), alpha)
    return found
