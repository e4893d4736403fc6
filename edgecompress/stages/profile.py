"""``profile``: speed, cold start, memory, heat and energy of a candidate on a target.

With a reference (the teacher's fp32 export) its time is taken in the same job, inference by
inference, which gives ``speedup``. The null model of every job gives ``harness_overhead``. What is
measured under other settings than the first has a ``slice``: ``threads:4``, ``arena:off``,
``batch:8``, ``operator:MatMul``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from edgecompress.disturbance import RULES, Rules
from edgecompress.errors import TargetError
from edgecompress.stage import Context, Kind, Observer
from edgecompress.targets.inputs import InputSettings
from edgecompress.timing import not_measured
from edgecompress.values import Candidate, Measurement, OnnxModel, TorchModel

if TYPE_CHECKING:
    from edgecompress.targets import Target
    from edgecompress.targets.base import Clock
    from edgecompress.targets.probe import Probe

Count = Annotated[int, Field(ge=1)]
VARIED = ("latency_p50", "latency_p90")
"""What is measured for each further number of threads, beside the speedup."""


class Profile(Observer):
    """Measure how fast a model is, and how much memory and energy it needs."""

    accepts: ClassVar[tuple[Kind, ...]] = (OnnxModel, TorchModel)

    target: str = "local"
    """Where to measure."""

    threads: Count | Annotated[tuple[Count, ...], Field(min_length=1)] = 1
    """``intra_op_num_threads``; of several numbers the first is the main one. More than a target
    has cores are not measured there."""

    affinity: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Cores to run on; left empty, those that the system gives."""

    arena: Literal["on", "off", "both"] = "on"
    """Whether ONNX Runtime keeps freed memory for itself; ``both`` measures without it, too."""

    batches: tuple[Count, ...] = ()
    """Batch sizes to measure the throughput of, in the offline scenario."""

    operators: bool = False
    """Also sum up which operators took the time, and which nodes stayed in floating point."""

    warmup_ms: float = Field(default=300.0, ge=0)
    """How long to run before readings count."""

    max_warmup_ms: float = Field(default=3000.0, ge=0)
    """How long to run at most until times are stable, and readings count all the same."""

    min_duration_ms: float = Field(default=2000.0, gt=0)
    """The loop runs at least so long."""

    max_duration_ms: float = Field(default=60000.0, gt=0)
    """The loop ends after so long, even before ``min_count``."""

    min_count: int = Field(default=400, ge=1)
    """Inferences of each model; an interval of p99 needs 368."""

    cold_starts: int = Field(default=3, ge=0)
    """Fresh processes for load time, first inference and memory; six give an interval, 0 leaves
    these out."""

    attempts: int = Field(default=2, ge=1)
    """How often to time, at most, while other work on the machine spoils the readings; a loop of
    five seconds or more is not repeated."""

    any_governor: bool = False
    """Accept times taken under a frequency governor other than performance."""

    contexts: tuple[int, ...] = (32, 128, 512)
    """Language models: tokens that are read; reading them and one token behind them is timed."""

    inputs: InputSettings = InputSettings()
    """What to feed instead of examples."""

    @model_validator(mode="after")
    def _enough_cores(self) -> Profile:
        if self.affinity and len(self.affinity) < max(self._thread_counts):
            raise ValueError(
                f"{max(self._thread_counts)} threads need as many cores, and affinity names "
                f"{len(self.affinity)}"
            )
        if len(set(self.affinity)) < len(self.affinity):
            raise ValueError("affinity names a core twice")
        return self

    @property
    def _thread_counts(self) -> tuple[int, ...]:
        return (self.threads,) if isinstance(self.threads, int) else self.threads

    def check_inputs(self) -> None:
        """Check the file of inputs, where one is named."""
        self.inputs.check()

    def observe(self, candidate: Candidate, context: Context) -> tuple[Measurement, ...]:
        """Measure `candidate` on the target, as far as that can.

        A PyTorch model is measured on this machine only, in a fresh process of its own that runs
        the reference in ONNX Runtime beside it.

        Raises
        ------
        TargetError
            When the target cannot be reached, or the model cannot be loaded or run there.
        """
        if isinstance(candidate.model, TorchModel) and self.target != "local":
            return ()
        return _Measuring(self, candidate, context).all()


class _Measuring:
    """One candidate on one target, with one stage's settings."""

    def __init__(self, stage: Profile, candidate: Candidate, context: Context) -> None:
        from edgecompress.targets.base import Clock

        self.stage, self.candidate, self.context = stage, candidate, context
        self.place: Target = context.target(stage.target)
        self.spec = getattr(self.place, "spec", None)  # targets made by hand have none
        governor = stage.any_governor or (self.spec is not None and self.spec.any_governor)
        self.rules: Rules = replace(RULES, any_governor=governor)
        self.clock = Clock(
            threads=stage._thread_counts[0],
            affinity=stage.affinity,
            arena=stage.arena != "off",
            warmup_ms=stage.warmup_ms,
            max_warmup_ms=stage.max_warmup_ms,
            min_duration_ms=stage.min_duration_ms,
            max_duration_ms=stage.max_duration_ms,
            min_count=stage.min_count,
            cold_starts=stage.cold_starts,
        )
        reference = context.reference
        # The reference runs first: a ratio needs both in one loop.
        self.together = [reference, candidate] if reference else [candidate]
        self.own = len(self.together) - 1

    def all(self) -> tuple[Measurement, ...]:
        """Measure what the target can."""
        from edgecompress.targets.cold import Cold
        from edgecompress.targets.instructions import Instructions
        from edgecompress.targets.offline import Offline
        from edgecompress.targets.operators import Operators
        from edgecompress.targets.power import Energy

        stage = self.stage
        no_arena = replace(self.clock, arena=False)
        both = stage.arena == "both" and isinstance(self.candidate.model, OnnxModel)
        found = [*self._ask(Instructions)]
        if "latency" in self.place.metrics:
            if too_many := self._too_many(self.clock.threads):
                raise TargetError(f"{self.place.name}: {too_many}")
            found += self._latency()
            for threads in stage._thread_counts[1:]:
                found += self._with_threads(threads)
            found += self._variant(no_arena, "arena:off") if both else ()
            for batch in stage.batches:
                found += self._ask(Offline, batch=batch)
            found += self._ask(Operators, reasons=self._reasons) if stage.operators else ()
        found += self._by_context()
        found += self._ask(Energy, meter=None if self.spec is None else self.spec.meter)
        if stage.cold_starts:
            found += self._ask(Cold)
            without = self._ask(Cold, no_arena) if both else ()
            peaks = (each for each in without if each.metric == "peak_memory")
            found += [replace(each, slice="arena:off") for each in peaks]
        return tuple(found)

    def _ask(
        self, probe: type[Probe], clock: Clock | None = None, **own: Any
    ) -> tuple[Measurement, ...]:
        """Measure by `probe` where the target and the model allow it."""
        fits = isinstance(self.candidate.model, probe.accepts)
        if probe.needs not in self.place.metrics or not fits:
            return ()
        shared = (self.stage.inputs, self.rules, self.context.progress)
        examples = self.context.validation
        asked = probe(self.candidate, examples, clock or self.clock, self.place, *shared, **own)
        return asked.measure()

    def _by_context(self) -> list[Measurement]:
        """Measure a language model by how much it has read, as far as the target can."""
        from edgecompress.targets.contexts import (
            ContextInstructions,
            ContextMemory,
            ContextTime,
            contexts_of,
        )

        found: list[Measurement] = []
        once = replace(self.clock, cold_starts=1)
        for context in contexts_of(self.candidate, self.stage.contexts):
            for part in ("prompt", "token"):
                found += self._ask(ContextTime, context=context, parts=(part,))
                found += self._ask(ContextInstructions, context=context, parts=(part,))
            if self.stage.cold_starts:
                found += self._ask(ContextMemory, once, context=context)
        return found

    def _reasons(self, feeds: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Say by a node's name why its weight is a float."""
        from edgecompress.quantization.prove.floats import float_reasons

        return float_reasons(self.candidate, [dict(feed) for feed in feeds])

    def _time(self, clock: Clock, slice: str | None = None) -> Any:
        from edgecompress.targets.measure import time_candidates

        return time_candidates(
            self.together,
            self.context.validation,
            clock,
            self.place,
            attempts=self.stage.attempts,
            rules=self.rules,
            slice=slice,
            inputs=self.stage.inputs,
            progress=self.context.progress,
            whole=slice is None,
        )

    @property
    def _reference_name(self) -> str:
        """What a ratio is against: the teacher's export, or the model it is compared with."""
        reference = self.context.reference
        if self.context.teacher is None and reference and isinstance(reference.model, OnnxModel):
            return reference.model.path.name
        return "fp32 export"

    def _latency(self) -> list[Measurement]:
        timed = self._time(self.clock)
        found = list(timed.latencies(self.own))
        found += [each] if (each := timed.end_to_end(self.own)) else []
        found += [each] if (each := timed.real_time_factor(self.own)) else []
        if self.own:
            found += [timed.speedup(0, self.own, self._reference_name)]
            whole = timed.end_to_end_speedup(0, self.own, self._reference_name)
            found += [whole] if whole else []
        found += [each] if (each := timed.temperature()) else []
        return [*found, timed.overhead(self.own + 1)]

    def _too_many(self, threads: int) -> str | None:
        """Say that so many threads have no core each, where that is known."""
        cores = self.place.describe().get("cores")
        if not cores or threads <= cores:
            return None
        return f"{threads} threads have only {cores} core{'s' * (cores != 1)}; name fewer threads"

    def _with_threads(self, threads: int) -> list[Measurement]:
        part = f"threads:{threads}"
        if too_many := self._too_many(threads):
            return [not_measured("latency_p50", "ms", too_many, self.place.name, part)]
        return self._variant(replace(self.clock, threads=threads), part)

    def _variant(self, clock: Clock, slice: str) -> list[Measurement]:
        timed = self._time(clock, slice)
        found = [each for each in timed.latencies(self.own) if each.metric in VARIED]
        found += [timed.speedup(0, self.own, self._reference_name)] if self.own else []
        return found
