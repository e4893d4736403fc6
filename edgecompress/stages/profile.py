"""``profile``: latency, cold start and memory of a candidate on a target.

With a reference (the teacher's stock fp32 export) its time is taken in the same job, inference by
inference, which gives ``speedup``. The null model of every job gives ``harness_overhead``.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from edgecompress.stage import Context, Kind, Observer
from edgecompress.values import Candidate, Measurement, OnnxModel, TorchModel


class Profile(Observer):
    """Measure how fast a model is, and how much memory it needs."""

    accepts: ClassVar[tuple[Kind, ...]] = (OnnxModel, TorchModel)

    target: str = "local"
    """Where to measure."""

    threads: int = Field(default=1, ge=1)
    """``intra_op_num_threads``."""

    warmup_ms: float = Field(default=300.0, ge=0)
    """How long to run before readings count."""

    min_duration_ms: float = Field(default=2000.0, gt=0)
    """The loop runs at least so long."""

    max_duration_ms: float = Field(default=60000.0, gt=0)
    """The loop ends after so long, even before ``min_count``."""

    min_count: int = Field(default=400, ge=1)
    """Inferences of each model; an interval of p99 needs 368."""

    cold_starts: int = Field(default=3, ge=0)
    """Fresh processes for load time, first inference and memory; 0 leaves these out."""

    attempts: int = Field(default=2, ge=1)
    """How often to time, at most, while other work on the machine spoils the readings."""

    def observe(self, candidate: Candidate, context: Context) -> tuple[Measurement, ...]:
        """Measure `candidate` on the target, as far as that can.

        A PyTorch model is measured on this machine only, in a fresh process of its own that runs
        the reference in ONNX Runtime beside it.

        Raises
        ------
        TargetError
            When the target cannot be reached, or the model cannot be loaded or run there.
        """
        from edgecompress.targets.instructions import instruction_measurements
        from edgecompress.targets.measure import Clock, cold_measurements, time_candidates

        clock = Clock(
            threads=self.threads,
            warmup_ms=self.warmup_ms,
            min_duration_ms=self.min_duration_ms,
            max_duration_ms=self.max_duration_ms,
            min_count=self.min_count,
            cold_starts=self.cold_starts,
            attempts=self.attempts,
        )
        reference = context.reference
        place = context.target(self.target)
        if isinstance(candidate.model, TorchModel) and self.target != "local":
            return ()
        found: list[Measurement] = []
        if "instructions" in place.metrics:
            found += instruction_measurements(
                candidate, context.validation, place, progress=context.progress
            )
        # The reference runs first: a ratio needs both in one loop.
        timed_together = [reference, candidate] if reference else [candidate]
        own = len(timed_together) - 1
        if "latency" in place.metrics:
            timed = time_candidates(
                timed_together, context.validation, clock, place, context.progress
            )
            found += timed.latencies(own)
            end_to_end = timed.end_to_end(own)
            found += [end_to_end] if end_to_end else []
            found += [timed.speedup(0, own, "stock fp32 export")] if reference else []
            found.append(timed.overhead(own + 1))
        if "memory" in place.metrics and self.cold_starts:
            found += cold_measurements(candidate, context.validation, clock, place)
        return tuple(found)
