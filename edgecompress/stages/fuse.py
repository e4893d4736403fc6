"""Fuse operators of a transformer's graph, keeping only what measuring shows to be faster.

A fused operator is not always a fast one: ONNX Runtime's SkipLayerNormalization took six times as
long as the LayerNormalization and Add that it replaces on a model 384 wide. So each fusion is tried
alone, then what helped is tried together, interleaved on this machine, and the fastest is kept. A
fusion that the session would make by itself and that costs time is switched off in the model's
session settings, which travel with it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from edgecompress.errors import StageError
from edgecompress.stage import Context, Decisions, Kind, Transform
from edgecompress.values import Candidate, Json, Measurement, OnnxModel, Step, find
from edgecompress.words import meant

SINGLES = (
    "tidy",
    "attention",
    "multi_head_attention",
    "sequence_first",
    "gelu",
    "layer_norm",
    "skip_layer_norm",
    "embed_layer_norm",
)
# Ways to fuse the same nodes: at most one of them is kept.
RIVALS = frozenset({"attention", "multi_head_attention", "sequence_first"})
SESSION_SKIP = "SkipLayerNormFusion"
# A gain below this is within what two runs of the same file differ by.
LEAST_GAIN = 1.01


@dataclass(frozen=True, slots=True)
class Variant:
    """Fusions written into the graph and optimizers of the session that are switched off."""

    fusions: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What decisions call it."""
        parts = [*self.fusions, *(f"-{name}" for name in self.disabled)]
        return "+".join(parts) or "none"


@dataclass(frozen=True, slots=True)
class _Trial:
    """A variant that answers as the source does, with its files."""

    variant: Variant
    model: OnnxModel
    judged: OnnxModel
    digest: str


class Fuse(Transform):
    """Fuse attention, GELU and normalizations where that makes the model faster."""

    also_called: ClassVar[tuple[str, ...]] = ("optimize", "attention-fusion")
    accepts: ClassVar[tuple[Kind, ...]] = (OnnxModel,)
    yields: ClassVar[Kind] = OnnxModel
    lossless: ClassVar[bool] = True
    keeps_ranges: ClassVar[bool] = True

    model_type: str = "bert"
    """The family as ONNX Runtime's optimizer names it; ``bert`` serves its kin, too."""
    judge: Literal["int8", "fp32"] = "int8"
    """Compare variants in this form. ``int8`` times each after dynamic quantization, as most
    chains quantize next and what is fastest in fp32 need not be so in int8."""
    fusions: tuple[str, ...] = SINGLES
    """Which fusions to try."""
    tolerance: float = Field(default=1e-3, gt=0)
    """Largest absolute difference to the outputs of the model before."""

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was fused."""
        from edgecompress import telling
        from edgecompress.report.words import plain

        chosen = step.decisions.get("chosen")
        if not isinstance(chosen, str):
            return ""
        if chosen == "none":
            return "Left the graph as it was: no fusion that was tried made it faster."
        # In a bundle's manifest there are none: they are timings, and stand with the evidence.
        variants = getattr(step, "measured", {}).get("variants") or step.decisions.get("variants")
        tried = len(variants) if isinstance(variants, dict) else 0
        of = f", the fastest of {tried} variants that were measured" if tried > 1 else ""
        fusions, off = (
            " and ".join(plain(one) for one in telling.items(step.decisions.get(key)))
            for key in ("fusions", "disabled_optimizers")
        )
        parts = [f"fused {fusions.replace('_', ' ')}"] if fusions else []
        parts += [f"switched {off} off in ONNX Runtime"] if off else []
        text = " and ".join(parts) or f"chose {plain(chosen)}"
        return f"{text[:1].upper()}{text[1:]}{of}."

    def decide(self, candidate: Candidate, context: Context) -> Decisions:
        """Try variants, and measure which is fastest.

        Raises
        ------
        StageError
            When a fusion's name is unknown, or no variant runs.
        """
        workshop = _Workshop(self, candidate, context)
        quantized, base = workshop.quantized, workshop.base
        without = replace(base, disabled=tuple(sorted({*base.disabled, SESSION_SKIP})))
        first = [base, without]
        if not quantized:
            first += [replace(base, fusions=(name,)) for name in self.fusions]
        gains = workshop.measure(first)
        best = max(gains, key=lambda variant: (gains[variant], -first.index(variant)))
        if not quantized:
            second = _together(base, without, gains, best)
            gains = workshop.measure(second)
            best = max(gains, key=lambda variant: (gains[variant], -second.index(variant)))
        if gains[best] < LEAST_GAIN:
            best = base
        record = {"fusions": [*best.fusions], "disabled_optimizers": [*best.disabled]}
        return Decisions(record, made=workshop)

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Write the variant that was chosen.

        Raises
        ------
        StageError
            When the record is not of this recipe, or the variant does not run here.
        """
        workshop = decisions.made or _Workshop(self, candidate, context)
        chosen = self._recorded(decisions.record, workshop.base)
        model, found = workshop.finish(chosen)
        return candidate.with_model(
            model,
            measured={"variants": workshop.log},
            learned_ranges=candidate.ranges,
            chosen=chosen.name,
            judged_as=self.judge if not workshop.quantized else "as it is",
            **found,
        )

    def _recorded(self, record: Json, base: Variant) -> Variant:
        try:
            fusions, disabled = (
                tuple(str(name) for name in record[key])
                for key in ("fusions", "disabled_optimizers")
            )
        except (KeyError, TypeError):
            raise StageError("fuse has no record of what it chose; run the recipe again") from None
        if not {*fusions} <= {*self.fusions} or not {*disabled} <= {*base.disabled, SESSION_SKIP}:
            name = Variant(fusions, disabled).name
            raise StageError(f"the record says that fuse chose {name}, which this recipe rules out")
        return Variant(fusions, disabled)


def _together(
    base: Variant, without: Variant, gains: dict[Variant, float], best: Variant
) -> list[Variant]:
    """Second round: what helped alone, together, with the session's skip fusion on and off."""
    helped = [v for v in gains if v.fusions and gains[v] >= LEAST_GAIN]
    kept: list[str] = []
    for variant in sorted(helped, key=lambda v: -gains[v]):
        name = variant.fusions[0]
        if name not in RIVALS or not RIVALS & {*kept}:
            kept.append(name)
    attentions = [
        v.fusions[0] for v in gains if v.fusions and v.fusions[0] in RIVALS and gains[v] > 0.95
    ]
    sets: list[tuple[str, ...]] = [tuple(kept)]
    sets += [(name,) for name in attentions]
    # The skip fusion in the graph and its switch in the session are opposites.
    sets += [tuple(name for name in kept if name != "skip_layer_norm")]
    variants = [base, best]
    for fusions in sorted(sets, key=len):
        # Every fusion tidies up, so `tidy` is a variant only when it is alone.
        others = len(set(fusions) - {"tidy"})
        ordered = tuple(n for n in SINGLES if n in fusions and (n != "tidy" or not others))
        variants += [replace(v, fusions=ordered) for v in (base, without)]
    return list(dict.fromkeys(variants))


class _Workshop:
    """Makes variants, drops wrong or equal ones, and has the others timed."""

    def __init__(self, stage: Fuse, candidate: Candidate, context: Context) -> None:
        from edgecompress.quantization.graphs.fusion import FUSIONS, is_quantized
        from edgecompress.tournament import Tournament

        for name in stage.fusions:
            if name not in FUSIONS:
                raise StageError(f"fuse knows no fusion {name!r}{meant(name, FUSIONS)}")
        self.stage, self.candidate, self.context = stage, candidate, context
        self.tournament = Tournament(candidate, context, stage.tolerance)
        self.source, self.log = self.tournament.source, self.tournament.log
        self.base = Variant((), self.source.session.disabled_optimizers)
        self.folder, self.target = context.folder / "variants", context.folder / "model"
        self.quantized = is_quantized(self.source.path)
        self.quantize = stage.judge == "int8" and not self.quantized
        self.trials: dict[Variant, _Trial] = {}

    def measure(self, variants: Iterable[Variant]) -> dict[Variant, float]:
        """Time the variants that are right, the first being the base; give speed-ups over it."""
        from edgecompress.tournament import times

        usable: list[_Trial] = []
        for variant in variants:
            trial = self._try(variant)
            if trial is None:
                continue
            twin = next(
                (
                    other.variant.name
                    for other in usable
                    if (other.digest, other.variant.disabled) == (trial.digest, variant.disabled)
                ),
                None,
            )
            if twin is None:
                usable.append(trial)
            else:
                self.log[variant.name]["outcome"] = f"the same graph as {twin}"
        if len(usable) == 1:
            return {usable[0].variant: 1.0}
        self.context.progress(0, 1, f"timing {len(usable)} variants")
        timed = times(self.candidate, [trial.judged for trial in usable], self.context)
        return {
            trial.variant: self._record(trial, found)
            for trial, found in zip(usable, timed, strict=True)
        }

    def _record(self, trial: _Trial, found: tuple[Measurement, ...]) -> float:
        from edgecompress.tournament import round_json

        latency, speedup = find(found, "latency_p50"), find(found, "speedup")
        gain = speedup.value if speedup else 1.0
        if speedup and speedup.interval and speedup.interval[0] <= 1:
            gain = min(gain, 1.0)  # not told apart from the base
        invalid = latency.invalid if latency else "not measured"
        known = {**round_json(found), "speedup": round(gain, 4), "invalid": invalid}
        self.log[trial.variant.name].setdefault("rounds", []).append(known)
        return gain

    def _try(self, variant: Variant) -> _Trial | None:
        """Make a variant once and compare it with the source; None when it is wrong."""
        from edgecompress.quantization.graphs.fusion import graph_digest

        if variant in self.trials:
            return self.trials[variant]
        if variant.name in self.log:
            return None
        try:
            model = self._written(variant)
            if not self.tournament.admits(variant.name, model):
                return None
            judged = self._int8(model, variant) if self.quantize else model
        except StageError as error:
            self.log.setdefault(variant.name, {})["outcome"] = str(error)
            return None
        self.trials[variant] = _Trial(variant, model, judged, graph_digest(model.path))
        return self.trials[variant]

    def _written(self, variant: Variant) -> OnnxModel:
        from edgecompress.models.storage import read_model
        from edgecompress.quantization.graphs.fusion import fuse
        from edgecompress.quantization.observe.learned import check_kept

        session = replace(self.source.session, disabled_optimizers=variant.disabled)
        model = OnnxModel(self.source.path, session)
        if not variant.fusions:
            return model
        twin = next((t for v, t in self.trials.items() if v.fusions == variant.fusions), None)
        if twin is not None:
            return replace(model, path=twin.model.path)
        model = replace(model, path=self.folder / variant.name / "model.onnx")
        fuse(self.source.path, variant.fusions, self.stage.model_type, model.path)
        if ranges := self.candidate.ranges:
            check_kept(read_model(self.source.path), read_model(model.path), ranges)
        return model

    def _int8(self, model: OnnxModel, variant: Variant) -> OnnxModel:
        from edgecompress.models.storage import read_model, write_model
        from edgecompress.quantization.plan.scheme import Scheme
        from edgecompress.quantization.write.writer import rewrite

        path = self.folder / ("+".join(variant.fusions) or "none") / "int8.onnx"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_model(rewrite(read_model(model.path), Scheme())[0], path)
        return replace(model, path=path)

    def finish(self, variant: Variant) -> tuple[OnnxModel, dict[str, Any]]:
        """Write a variant's model, and give what it is made of.

        Raises
        ------
        StageError
            When it does not run, or computes something else than its source.
        """
        from edgecompress.models.storage import read_model, write_model
        from edgecompress.quantization.graphs.fusion import operator_counts

        trial = self._try(variant)
        if trial is None:
            raise StageError(f"{variant.name}: {self.log[variant.name]['outcome']}")
        chosen = trial.model
        self.target.mkdir(parents=True, exist_ok=True)
        model = replace(chosen, path=self.target / "model.onnx")
        write_model(read_model(chosen.path), model.path)
        shutil.rmtree(self.folder, ignore_errors=True)
        return model, {"operators": operator_counts(model.path)}
