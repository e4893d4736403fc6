"""Neural Compressor's accuracy-aware tuning, which here never ends with nothing saved.

Method: ``neural_compressor.torch.quantization.autotune``,
https://intel.github.io/neural-compressor/latest/docs/source/3x/PT_Autotune.html: configurations are
tried one after the other until one keeps the metric. It stops at none by the clock, gives nothing
back when it is stopped, and knows smoothing only with Intel's extension. So each model that it has
quantized is written as ONNX and judged as that at once, in the function by which it asks for the
metric; what was tried and the best so far stay in the stage's scratch folder.

Imported inside functions only: it needs torch.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from edgecompress.errors import DataError, StageError
from edgecompress.models.inputs import encode_rows, typed_feed
from edgecompress.models.outputs import ComparedSamples, Run
from edgecompress.models.runner import open_onnx
from edgecompress.models.torch_runner import TorchRunner
from edgecompress.quantization.inc.config import IncConfig, Smooth
from edgecompress.quantization.inc.config import Scheme as IncScheme
from edgecompress.quantization.inc.library import LIBRARY_ERRORS
from edgecompress.quantization.inc.source import Prepared, Source
from edgecompress.quantization.observe.learned import module_path
from edgecompress.quantization.plan.scheme import Scheme
from edgecompress.quantization.search.sensitivity import measure
from edgecompress.surgery.model import load_module
from edgecompress.values import Example, Json
from edgecompress.writing import replace_file

MODEL = "model.onnx"
RANKED_ON = 16
"""Texts: errors of layers differ by orders of magnitude, and few tell them apart."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is tried, and when it is enough.

    Attributes
    ----------
    max_drop : float
        How much of the metric may be lost, a fraction.
    seconds : float
        No trial starts after this time; the first always ends.
    schemes : tuple of str
    smooth : tuple of float or "auto"
        Alphas to try with the static scheme.
    most_excluded : int
        Of the best plan, up to so many layers are left in fp32.
    thorough : bool
        Try all, though one is good enough.
    """

    max_drop: float
    seconds: float
    schemes: tuple[IncScheme, ...]
    smooth: tuple[Smooth, ...]
    most_excluded: int
    thorough: bool

    def plans(self) -> list[IncConfig]:
        """Give what is tried with all layers in int8, in this order."""
        found = []
        if "static" in self.schemes:
            found += [IncConfig("static", "histogram"), IncConfig("static", "minmax")]
        if "dynamic" in self.schemes:
            found.append(IncConfig("dynamic"))
        if "static" in self.schemes:
            found += [IncConfig("static", "histogram", smooth) for smooth in self.smooth]
        return found

    def exclusions(self, best: IncConfig, ranked: Sequence[str]) -> list[IncConfig]:
        """Give the best plan with 1, 2, 4 … of the layers in fp32 that lose most."""
        most = min(self.most_excluded, len(ranked) - 1)
        counts = [2**power for power in range(most.bit_length()) if 2**power < most]
        counts += [most] if most > 0 else []
        return [replace(best, exclude=tuple(ranked[:count])) for count in counts]


@dataclass(frozen=True, slots=True)
class Trial:
    """A plan and what became of it.

    Attributes
    ----------
    score : float or None
        The metric; None: it failed, and `outcome` says why.
    decisions : dict
        Of its model, as a step keeps them.
    """

    plan: IncConfig
    score: float | None
    outcome: str
    seconds: float
    decisions: Json


def best_trial(trials: Sequence[Trial], goal: float) -> int | None:
    """Choose among what was tried.

    Of those that reach the goal the one with the fewest layers in fp32, and of these the most
    accurate; when none does, the most accurate. The earlier one of equals.

    Returns
    -------
    int or None
        Its place; None when all failed.
    """
    scored = [(place, one) for place, one in enumerate(trials) if one.score is not None]
    if not scored:
        return None

    def order(item: tuple[int, Trial]) -> tuple[int, int, float, int]:
        place, one = item
        score = one.score or 0.0
        reached = score >= goal
        return (0 if reached else 1, len(one.plan.exclude) if reached else 0, -score, place)

    return min(scored, key=order)[0]


class Ledger:
    """What was tried, on disk: a killed tuning goes on where it was.

    ``tuning.json`` is written after each trial; the best one's model lies in ``trial-<place>``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "tuning.json"
        self.baseline: float | None = None
        self.trials: list[Trial] = []
        self.before = 0.0
        self.started = time.monotonic()
        if self.file.exists():
            document = json.loads(self.file.read_text(encoding="utf-8"))
            self.baseline, self.before = document["baseline"], document["seconds"]
            self.trials = [
                Trial(**{**one, "plan": IncConfig.from_json(one["plan"])})
                for one in document["trials"]
            ]

    @property
    def seconds(self) -> float:
        """Time spent, earlier tries at the same work counted in."""
        return self.before + time.monotonic() - self.started

    def path(self, place: int) -> Path:
        """Give where the model of a trial lies."""
        return self.folder / f"trial-{place}" / MODEL

    def tried(self, plan: IncConfig) -> bool:
        """Say whether a plan has been tried."""
        return any(one.plan == plan for one in self.trials)

    def add(self, trial: Trial, goal: float) -> None:
        """Keep a trial, and of the models the best."""
        self.trials.append(trial)
        self.save()
        best = best_trial(self.trials, goal)
        for place in range(len(self.trials)):
            if place != best:
                shutil.rmtree(self.path(place).parent, ignore_errors=True)

    def save(self) -> None:
        """Write what is known, in one step."""
        trials = [{**asdict(one), "plan": one.plan.to_json()} for one in self.trials]
        document = {"baseline": self.baseline, "seconds": self.seconds, "trials": trials}
        replace_file(self.file, json.dumps(document))


class _EnoughError(Exception):
    """Ends Neural Compressor's loop from within: everything worth keeping is on disk."""


class Tuner:
    """Tries plans for one source and keeps what it finds.

    Raises
    ------
    DataError
        When there is nothing to judge by.
    """

    def __init__(
        self, source: Source, settings: Settings, examples: Sequence[Example], ledger: Ledger
    ) -> None:
        rows = encode_rows(source.candidate, examples)
        if rows is None:
            raise DataError(
                "tuning judges by labelled validation examples, with a task and a tokenizer; "
                "without them use quantize.inc_dynamic"
            )
        self.source, self.settings, self.ledger = source, settings, ledger
        feeds = tuple(typed_feed(rows, [row], source.specs) for row in range(len(rows.lengths)))
        self.samples = ComparedSamples(feeds, rows, tuple(examples), source.candidate.labels)
        self.metric, self.output = rows.task.metrics[0].name, rows.task.outputs[0].name

    @property
    def goal(self) -> float:
        """What the metric must reach."""
        return (self.ledger.baseline or 0.0) - self.settings.max_drop

    def run(self) -> int:
        """Tune; give the place of the best trial.

        Raises
        ------
        StageError
            When the model answers nothing right, or every plan failed.
        """
        if self.ledger.baseline is None:
            self.ledger.baseline = self._score(
                _torch_run(load_module(self.source.model), self.output)
            )
            self.ledger.save()
        if self.ledger.baseline <= 0:
            raise StageError(
                f"the model's {self.metric} on the validation examples is 0: there is nothing to "
                "keep; train it first"
            )
        self._try(self.settings.plans())
        best = best_trial(self.ledger.trials, self.goal)
        if best is not None and self.settings.most_excluded and not self._enough():
            plan = replace(self.ledger.trials[best].plan, exclude=())
            self._try(self.settings.exclusions(plan, self._ranked()))
            best = best_trial(self.ledger.trials, self.goal)
        if best is None:
            raise StageError(f"no plan worked; the first: {self.ledger.trials[0].outcome}")
        return best

    def _ranked(self) -> list[str]:
        """Give the paths of the linear layers, those first that lose most alone in int8."""
        source = self.source
        feeds = source.texts[:RANKED_ON] or [source.traced]
        folder = self.ledger.folder / "ranking"
        items, _ = measure(
            source.exported, ComparedSamples(tuple(feeds)), Scheme(), folder, parts=["both"]
        )
        items.sort(key=lambda item: -item.cost.error)
        paths = (module_path(item.layer) for item in items)
        return [path for path in paths if path in source.linears]

    def _enough(self) -> bool:
        """Say whether to stop: the time is over, or a plan reaches the goal and one is enough."""
        best = best_trial(self.ledger.trials, self.goal)
        if best is None:
            return False
        reached = (self.ledger.trials[best].score or 0.0) >= self.goal
        late = self.ledger.seconds > self.settings.seconds
        return late or (reached and not self.settings.thorough)

    def _try(self, plans: Sequence[IncConfig]) -> None:
        """Tune over plans; Neural Compressor sees those together that smooth alike."""
        left = [plan for plan in plans if not self.ledger.tried(plan)]
        for smooth, group in groupby(left, key=lambda plan: plan.smooth):
            if self._enough():
                return
            waiting = list(group)
            try:
                prepared = self.source.prepare(smooth)
                graph = self.source.export(prepared)
            except (StageError, *LIBRARY_ERRORS) as error:
                for plan in waiting:
                    self._failed(plan, error)
                continue
            while waiting and not self._enough():
                count = len(waiting)
                try:
                    self._autotune(graph, prepared, waiting)
                except _EnoughError:
                    break
                except LIBRARY_ERRORS as error:
                    if len(waiting) == count:  # else the plan has its verdict
                        self._failed(waiting.pop(0), error)
                else:
                    break

    def _autotune(self, graph: Any, prepared: Prepared, waiting: list[IncConfig]) -> None:
        """Run Neural Compressor's loop; each plan that gets its verdict leaves `waiting`."""
        source, ledger = self.source, self.ledger
        baseline = ledger.baseline or 0.0
        # Neural Compressor's loss is relative.
        loss = float("-inf") if self.settings.thorough else self.settings.max_drop / baseline
        tuning = source.libraries["tuning"](
            config_set=[source.config(plan, prepared) for plan in waiting],
            tolerable_loss=loss,
            max_trials=len(waiting),
        )
        asked = False

        def calibrate(model: Any) -> None:
            if not waiting or self._enough():
                # All are judged and the best is kept, which Neural Compressor would make again.
                raise _EnoughError
            source.observe(model, waiting[0])

        def judge(model: Any) -> float:
            nonlocal asked
            if not asked:  # it asks for the unquantized model's metric first
                asked = True
                return baseline
            plan = waiting.pop(0)
            started = time.monotonic()
            path = ledger.path(len(ledger.trials))
            try:
                made, decisions = source.write(model, prepared, plan, path)
                score = self._score(open_onnx(made).values)
            except StageError as error:
                self._failed(plan, error)
                return 0.0
            spent = round(time.monotonic() - started, 3)
            ledger.add(Trial(plan, score, f"{score:.4f}", spent, decisions), self.goal)
            total = len(ledger.trials) + len(waiting)
            self.source.context.progress(
                len(ledger.trials), total, f"{plan.name}: {self.metric} {score:.4f}"
            )
            return score

        with torch.no_grad():
            source.libraries["autotune"](
                graph, tuning, eval_fn=judge, run_fn=calibrate, example_inputs=source.example
            )

    def _failed(self, plan: IncConfig, error: Exception) -> None:
        outcome = " ".join(str(error).split())[:300] or type(error).__name__
        self.ledger.add(Trial(plan, None, outcome, 0.0, {}), self.goal)

    def _score(self, run: Run) -> float:
        """Give the metric of a model that is asked one example at a time, as it is deployed."""
        found = self.samples.score(run(feed)[0] for feed in self.samples.feeds)
        return 0.0 if found is None else found


def _torch_run(module: Any, output: str) -> Run:
    """Ask a PyTorch module as an ONNX model is asked."""
    runner = TorchRunner(module, [output])
    return lambda feed: list(runner(feed).values())
