"""Models that were tried: made, judged and timed once each, and remembered over a kill."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgecompress.models.outputs import Cost, OutputJudge
from edgecompress.models.runner import open_onnx
from edgecompress.quantization.plan.quant_plan import Ranges
from edgecompress.quantization.plan.scheme import Scheme
from edgecompress.quantization.search.mixed import write_mixed
from edgecompress.quantization.search.units import Assignment
from edgecompress.values import Json, Measurement, OnnxModel, find, json_digest
from edgecompress.writing import replace_file

AT_ONCE = 5
"""Models that are timed interleaved in one job; more would not lie in memory together."""
LEAST_GAIN = 1.01
"""A gain below this is within what two runs of the same file differ by."""


class OutOfTimeError(Exception):
    """The time limit was reached before a further model could be tried."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a model may lose against fp32; None: no limit.

    Attributes
    ----------
    max_drop : float or None
        Of the task's metric, a fraction.
    max_error : float or None
        Relative squared error of the outputs.
    """

    max_drop: float | None
    max_error: float | None

    def miss(self, cost: Cost) -> float:
        """By how much of its limit a model exceeds the worst of them; 0 where it passes."""
        beyond = [0.0]
        for value, limit in ((cost.drop, self.max_drop), (cost.error, self.max_error)):
            # A metric is a share of whole answers: what lies on the limit must not fail by 1e-17.
            if value is not None and limit is not None and value > limit + 1e-9:
                beyond.append((value - limit) / max(limit, 1e-9))
        return max(beyond)

    def say(self, cost: Cost, metric: str | None) -> str:
        """Say what a model loses beside what it may."""
        said = []
        if self.max_drop is not None and cost.drop is not None:
            said.append(f"{metric} falls by {cost.drop:.4f} (at most {self.max_drop:g})")
        if self.max_error is not None:
            said.append(f"the outputs' error is {cost.error:.3g} (at most {self.max_error:g})")
        return ", ".join(said)


@dataclass(frozen=True, slots=True)
class Tried:
    """A model that was made and judged."""

    assignment: Assignment
    why: str
    cost: Cost
    size_bytes: int
    miss: float

    @property
    def passes(self) -> bool:
        """Whether it keeps the budget."""
        return self.miss <= 0


@dataclass(frozen=True, slots=True)
class Timed:
    """How long a model took beside the first one of its job.

    `gain` is the first one's time over this one's; `surely` what it is at least, by its interval.
    """

    ms: float
    gain: float
    surely: float
    invalid: str | None


class Trials:
    """Makes models of assignments, judges and times them; the same question is asked once.

    Parameters
    ----------
    source : OnnxModel
    scheme : Scheme
    ranges : mapping
        Of static layers.
    judge : OutputJudge
    budget : Budget
    measure : callable
        Times models interleaved; gives what ``context.measure`` gives.
    scratch : Path
        What was found out is saved here.
    folder : Path
        For models; they are removed again.
    seconds : float
        From the first call on, earlier processes included.
    progress : callable
        Told (done, total, what).
    """

    def __init__(
        self,
        source: OnnxModel,
        scheme: Scheme,
        ranges: Ranges,
        judge: OutputJudge,
        budget: Budget,
        measure: Callable[[Sequence[OnnxModel]], list[tuple[Measurement, ...]]],
        scratch: Path,
        folder: Path,
        seconds: float,
        progress: Callable[[float, float, str], None],
    ) -> None:
        self.source, self.scheme, self.ranges = source, scheme, ranges
        self.judge, self.budget, self._measure = judge, budget, measure
        self.file, self.folder = scratch / "tried.json", folder
        self.seconds, self.progress = seconds, progress
        self.started = time.monotonic()
        self.tried: dict[str, Tried] = {}
        self.saved = self._load()
        self.before = float(self.saved["seconds"])

    def _load(self) -> Json:
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
            if set(found) == {"seconds", "costs", "times"}:
                return dict(found)
        except (OSError, ValueError, TypeError):
            pass  # the first time, or cut off by a kill of an older process
        return {"seconds": 0.0, "costs": {}, "times": {}}

    def _save(self) -> None:
        self.saved["seconds"] = round(self.elapsed, 3)
        replace_file(self.file, json.dumps(self.saved))

    @property
    def elapsed(self) -> float:
        """Seconds so far, those of an earlier process that was killed included."""
        return self.before + time.monotonic() - self.started

    @property
    def ended(self) -> bool:
        """Whether the time is over."""
        return self.elapsed >= self.seconds

    def attempt(self, assignment: Assignment, why: str, *, must: bool = False) -> Tried:
        """Make and judge a model, or remember what became of it.

        Raises
        ------
        OutOfTimeError
            When the time is over, the model is new and it is not one that `must` be tried.
        """
        key = json_digest(assignment.to_json())
        if key in self.tried:
            return self.tried[key]
        known = self.saved["costs"].get(key)
        if known is None:
            if self.ended and not must:
                raise OutOfTimeError
            self.progress(min(self.elapsed, self.seconds), self.seconds, why)
            model = self.make(assignment)
            cost = self.judge.cost(open_onnx(model).values)
            size = sum(f.stat().st_size for f in model.directory.glob(f"{model.path.name}*"))
            known = self.saved["costs"][key] = {"cost": asdict(cost), "size": size}
            self._save()
            shutil.rmtree(model.directory)
        cost = Cost(**known["cost"])
        found = Tried(assignment, why, cost, int(known["size"]), self.budget.miss(cost))
        self.tried[key] = found
        return found

    def make(self, assignment: Assignment, target: Path | None = None) -> OnnxModel:
        """Write the model of an assignment."""
        name = json_digest(assignment.to_json())[:16]
        path = target or self.folder / name / "model.onnx"
        return write_mixed(self.source, assignment, self.scheme, self.ranges, path)[0]

    def time(
        self, assignments: Sequence[Assignment | None], *, must: bool = False
    ) -> list[Timed | None]:
        """Time models against the first of them; None stands for the fp32 model.

        In jobs of a few models each, with the first one in all of them.

        Returns
        -------
        list of Timed or None
            None where the time was over.
        """
        found: list[Timed | None] = [None] * len(assignments)
        for start in range(1, len(assignments), AT_ONCE - 1):
            rest = range(start, min(start + AT_ONCE - 1, len(assignments)))
            times = self._time_together([assignments[0], *(assignments[i] for i in rest)], must)
            if times is None:
                break
            found[0] = found[0] or times[0]
            for index, timed in zip(rest, times[1:], strict=True):
                found[index] = timed
        return found

    def _time_together(
        self, assignments: Sequence[Assignment | None], must: bool
    ) -> list[Timed] | None:
        keys = [json_digest(a.to_json()) if a else "fp32" for a in assignments]
        name = json_digest(keys)
        if name not in self.saved["times"]:
            if self.ended and not must:
                return None
            what = f"timing {len(assignments)} models"
            self.progress(min(self.elapsed, self.seconds), self.seconds, what)
            models = [self.make(a) if a else self.source for a in assignments]
            measured = [_timed(each) for each in self._measure(models)]
            for model in models:
                if model is not self.source:
                    shutil.rmtree(model.directory, ignore_errors=True)
            self.saved["times"][name] = {"of": keys, "timed": [asdict(one) for one in measured]}
            self._save()
        return [Timed(**one) for one in self.saved["times"][name]["timed"]]


def _timed(found: tuple[Measurement, ...]) -> Timed:
    latency, speedup = find(found, "latency_p50"), find(found, "speedup")
    gain = speedup.value if speedup else 1.0
    low = speedup.interval[0] if speedup and speedup.interval else gain
    ms = latency.value if latency else float("nan")
    return Timed(ms, gain, min(low, gain), latency.invalid if latency else "not measured")
