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
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from edgecompress.errors import StageError
from edgecompress.stage import Context, Decisions, Kind, Transform
from edgecompress.values import Candidate, Json, Measurement, OnnxModel, Step, find

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


@dataclass
class _Trial:
    """A variant's files and what became of it."""

    variant: Variant
    model: OnnxModel
    judged: OnnxModel
    digest: str
    difference: float
    outcome: dict[str, Any] = field(default_factory=dict)


class Fuse(Transform):
    """Fuse attention, GELU and normalizations where that makes the model faster."""

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
        gains = workshop.measure(first, context)
        best = max(gains, key=lambda variant: (gains[variant], -first.index(variant)))
        if not quantized:
            second = _together(base, without, gains, best)
            gains = workshop.measure(second, context)
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
        from edgecompress.models.inputs import onnx_model, parity_feeds
        from edgecompress.models.runner import answers
        from edgecompress.quantization.graphs.fusion import FUSIONS, is_quantized

        for name in stage.fusions:
            if name not in FUSIONS:
                known = ", ".join(FUSIONS)
                raise StageError(f"fuse knows no fusion {name!r}: there are {known}")
        self.stage, self.candidate, self.source = stage, candidate, onnx_model(candidate)
        source = self.source
        self.base = Variant((), source.session.disabled_optimizers)
        self.folder, self.target = context.folder / "variants", context.folder / "model"
        self.quantized = is_quantized(source.path)
        self.quantize = stage.judge == "int8" and not self.quantized
        self.trials: dict[Variant, _Trial] = {}
        self.log: dict[str, dict[str, Any]] = {}
        self.feeds = parity_feeds(
            candidate,
            context.validation or context.train,
            source,
            context.seed,
        )
        self.expected = answers(source, self.feeds)

    def measure(self, variants: Iterable[Variant], context: Context) -> dict[Variant, float]:
        """Time the variants that are right, the first being the base; give speed-ups over it."""
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
        context.progress(0, 1, f"timing {len(usable)} variants")
        judged = [replace(self.candidate, model=trial.judged) for trial in usable]
        gains: dict[Variant, float] = {}
        for trial, found in zip(usable, context.measure(judged), strict=True):
            gains[trial.variant] = self._record(trial, found)
        return gains

    def _record(self, trial: _Trial, found: tuple[Measurement, ...]) -> float:
        latency = find(found, "latency_p50")
        speedup = find(found, "speedup")
        gain = speedup.value if speedup else 1.0
        if speedup and speedup.interval and speedup.interval[0] <= 1:
            gain = min(gain, 1.0)  # not told apart from the base
        entry = self.log[trial.variant.name]
        rounds = entry.setdefault("rounds", [])
        rounds.append(
            {
                "latency_p50_ms": round(latency.value, 4) if latency else None,
                "speedup": round(gain, 4),
                "interval": list(speedup.interval) if speedup and speedup.interval else None,
                "invalid": latency.invalid if latency else "not measured",
            }
        )
        return gain

    def _try(self, variant: Variant) -> _Trial | None:
        """Make a variant once and compare it with the source; None when it is wrong."""
        if variant in self.trials:
            return self.trials[variant]
        if variant.name in self.log:
            return None
        entry: dict[str, Any] = {}
        self.log[variant.name] = entry
        try:
            trial = self._make(variant)
        except StageError as error:
            entry["outcome"] = str(error)
            return None
        entry["max_abs_difference"] = trial.difference
        if trial.difference > self.stage.tolerance:
            entry["outcome"] = f"differs by more than {self.stage.tolerance:g}"
            return None
        self.trials[variant] = trial
        return trial

    def _make(self, variant: Variant) -> _Trial:
        from edgecompress.models.session import ORT_ERRORS, open_session
        from edgecompress.models.storage import read_model
        from edgecompress.quantization.graphs.fusion import fuse, graph_digest
        from edgecompress.quantization.observe.learned import check_kept
        from edgecompress.quantization.prove.gains import worst_difference

        session = replace(self.source.session, disabled_optimizers=variant.disabled)
        model = OnnxModel(self.source.path, session)
        if variant.fusions:
            model = replace(model, path=self.folder / variant.name / "model.onnx")
            twin = next((t for v, t in self.trials.items() if v.fusions == variant.fusions), None)
            if twin is not None:
                model = replace(model, path=twin.model.path)
            else:
                fuse(self.source.path, variant.fusions, self.stage.model_type, model.path)
                if ranges := self.candidate.ranges:
                    check_kept(read_model(self.source.path), read_model(model.path), ranges)
        running = open_session(model)
        try:
            found = [running.run(None, feed) for feed in self.feeds]
        except ORT_ERRORS as error:
            raise StageError(f"does not run ({str(error).splitlines()[0]})") from None
        worst = worst_difference(self.expected, found, self.feeds)
        judged = self._int8(model, variant) if self.quantize else model
        return _Trial(variant, model, judged, graph_digest(model.path), worst)

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
