"""The one loop: chains of stages through the store, then what is measured of each result.

Equal prefixes of chains are made once, because a result's key holds everything it depends on: the
stage, its code and parameters, the digests of its input, teacher and data, the seed and the
versions of the libraries. A chain that fails becomes a row with its reason; the others go on.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from edgecompress.context import Context
from edgecompress.data.calibration import few_examples
from edgecompress.determinism import steady
from edgecompress.disturbance import may_pass
from edgecompress.engine.chains import Chain, StageUse
from edgecompress.engine.observation import on_all, open_targets
from edgecompress.engine.recipe import Recipe
from edgecompress.engine.splits import Splits
from edgecompress.engine.stopping import Search
from edgecompress.errors import EdgeCompressError, StageError
from edgecompress.parts import observed_by_part, several
from edgecompress.progress import Reporter, Silent
from edgecompress.provenance import candidate_digest, code_digest, library_versions
from edgecompress.stage import Observer, Stage, Transform, checked
from edgecompress.store import Store, in_words
from edgecompress.targets import Target, open_target
from edgecompress.tasks import Answers, foreign_code
from edgecompress.training.together import cached, together
from edgecompress.values import (
    Candidate,
    Example,
    Json,
    Measurement,
    OnnxModel,
    Step,
    json_digest,
)
from edgecompress.writing import temporary

TRIAL_FIELDS = ("threads", "min_duration_ms", "max_warmup_ms")
"""Fields of `profile` that what a stage times in passing keeps to, too."""


@dataclass(frozen=True, slots=True)
class Made:
    """A candidate with all the candidates on the way to it, the first being the chain's input."""

    path: tuple[Candidate, ...]

    @property
    def candidate(self) -> Candidate:
        """The chain's result."""
        return self.path[-1]


class Pipeline:
    """Runs the stages and observers of one recipe against one store.

    Parameters
    ----------
    recipe : Recipe
    store : Store
    splits : Splits
        Train and validation; test never enters here.
    reporter : Reporter
    recorded : sequence of Step
        The steps of a model that is to be made again: what its stages decided by measuring is
        decided the same, not measured.
    threads : int, optional
        How many threads torch computes with, where the recipe does not say so.
    search : Search, optional
        Says when stages that are under way are left; never, where it is not given.
    """

    def __init__(
        self,
        recipe: Recipe,
        store: Store,
        splits: Splits,
        reporter: Reporter | None = None,
        *,
        recorded: Sequence[Step] = (),
        threads: int | None = None,
        search: Search | None = None,
    ) -> None:
        self.recipe = recipe
        self.store = store
        self.splits = splits
        self.reporter = reporter or Silent()
        self.recorded = tuple(recorded)
        self.threads = recipe.fields.threads or threads
        self.search = search or Search()
        self.teacher: Candidate | None = None
        self.reference: Candidate | None = None
        self.targets = open_targets(recipe)
        self._observed_now: set[str] = set()

    def close(self) -> None:
        """End what the targets keep open."""
        for target in self.targets.values():
            target.close()

    def run_chain(self, chain: Chain, start: Candidate) -> Made:
        """Apply every stage in order; what the store holds already is not made again."""
        path = [start]
        for use in chain:
            path.append(self.apply(use, path[-1]))
        return Made(tuple(path))

    def apply(self, use: StageUse, candidate: Candidate) -> Candidate:
        """Apply one stage, or take its result from the store.

        Raises
        ------
        StageError
            When the stage fails or breaks its contract.
        """
        threads = self.recipe.fields.threads
        key = json_digest(
            {
                **self._stage_key(use.stage),
                **({"threads": threads} if threads else {}),
                "input": candidate_digest(candidate),
                "steps": [(step.stage, step.decisions) for step in candidate.steps],
            }
        )
        self.reporter.begin(use.label)
        known = self.store.path(key).is_dir()

        def build(folder: Path, scratch: Path) -> None:
            started = time.monotonic()
            recorded = self._recorded(use.name, len(candidate.steps))
            context = self._context(folder, scratch)
            with (
                steady(type(use.stage).__module__, self.threads),
                together(use.stage, candidate, context, self.store, self.threads),
            ):
                result = checked(use.stage, candidate, context, recorded)
            if result.preprocessor and not result.preprocessor.is_relative_to(folder):
                shutil.copytree(result.preprocessor, folder / "preprocessor")
            parameters = use.stage.model_dump(mode="json")
            seconds = round(time.monotonic() - started, 3)
            step = replace(
                result.steps[-1], stage=use.name, parameters=parameters, seconds=seconds, key=key
            )
            replace(result, steps=(*candidate.steps, step)).save(folder)

        made = Candidate.load(self.obtain(key, build, use.name))
        remark = few_examples(made.steps[-1].decisions)
        spent = "from the store" if known else f"{made.steps[-1].seconds:.1f} s"
        self.reporter.end(f"{spent}; {remark}" if remark else spent)
        return made

    def _recorded(self, name: str, place: int) -> Json | None:
        """Give what the stage at `place` of the steps decided when the model was first made."""
        step = self.recorded[place] if place < len(self.recorded) else None
        return step.decisions if step is not None and step.stage == name else None

    def observe(
        self, observer: Observer, candidate: Candidate, after: str = ""
    ) -> tuple[Measurement, ...]:
        """Measure a candidate wherever the observer can, or take what earlier runs measured.

        `after` names, for progress, the stage whose result it is.
        What an earlier run measured and was invalid is measured again, as the reason may have gone;
        in this run it is not, as that would take as long again. A target that fails is a
        measurement that says why (`edgecompress.engine.observation`).
        """
        name = observer.stage_name()
        if "target" not in type(observer).model_fields:
            return self._observed(observer, candidate, None, self.reporter)

        def ask(target: str, reporter: Reporter) -> tuple[Measurement, ...]:
            there = observer.model_copy(update={"target": target})
            return self._observed(there, candidate, self.targets[target], reporter)

        split = "validation" if name == "evaluate" else None
        title = f"{name} after {after}" if after else None
        places = self._places(candidate)
        return on_all(places, name, ask, self.reporter, split=split, title=title)

    def _places(self, candidate: Candidate) -> Mapping[str, Target]:
        """Give the targets for a candidate: a PyTorch model runs on this machine only."""
        if isinstance(candidate.model, OnnxModel):
            return self.targets
        return {name: place for name, place in self.targets.items() if name == "local"}

    def _observed(
        self, observer: Observer, candidate: Candidate, place: Target | None, reporter: Reporter
    ) -> tuple[Measurement, ...]:
        document = {
            **self._stage_key(observer),
            "input": candidate_digest(candidate),
            "reference": candidate_digest(self.reference) if self.reference else None,
            "machine": place.fingerprint() if place else None,
            "state": _state(place) if place else None,
        }

        def build(folder: Path, scratch: Path) -> None:
            context = self._context(folder / "work", scratch, reporter)
            whole = not (observer.by_part and several(candidate))
            found = (
                observer.observe(candidate, context)
                if whole
                else observed_by_part(observer, candidate, context)
            )
            shutil.rmtree(folder / "work", ignore_errors=True)
            text = json.dumps([asdict(measurement) for measurement in found], indent=1)
            (folder / "measurements.json").write_text(text, encoding="utf-8")

        key = json_digest(document)
        known = self.store.get(key)
        if known:
            found = _read_measurements(known)
            again = any(may_pass(measurement.invalid) for measurement in found)
            if not again or key in self._observed_now:
                return found
            shutil.rmtree(known, ignore_errors=True)
        self._observed_now.add(key)
        return _read_measurements(self.obtain(key, build, observer.stage_name()))

    def observe_test(
        self, candidate: Candidate, test: Sequence[Example], name: str = "test"
    ) -> tuple[Measurement, ...]:
        """Score a candidate on the test split; called once it has been chosen, and never before."""
        from edgecompress.targets.accuracy import observe_accuracy

        def ask(target: str, reporter: Reporter) -> tuple[Measurement, ...]:
            with self.asking(reporter) as context:
                return observe_accuracy(candidate, test, "test", target, context)

        return on_all(
            self._places(candidate), "evaluate", ask, self.reporter, split="test", title=name
        )

    @contextmanager
    def asking(self, reporter: Reporter | None = None) -> Iterator[Context]:
        """Give a context for questions whose answers are not kept as a stage's result."""
        with temporary() as folder:
            yield self._context(folder / "work", folder, reporter)

    def answers(self, candidate: Candidate, examples: Sequence[Example]) -> Answers:
        """Give what a candidate answers on this machine, asked once over all runs.

        Raises
        ------
        TargetError
            When the model cannot be loaded or run here.
        """
        from edgecompress.targets.accuracy import cached_answers
        from edgecompress.targets.local import Local

        with self.asking() as context:
            return cached_answers(context, candidate, examples, Local())

    def _stage_key(self, stage: Stage) -> Json:
        module = type(stage).__module__
        return {
            "stage": stage.stage_name(),
            "parameters": stage.identity(),
            "code": code_digest(module),
            "task": foreign_code(self.recipe.fields.task),
            "libraries": library_versions(module),
            "teacher": candidate_digest(self.teacher)
            if self.teacher and _reads_teacher(stage)
            else None,
            "data": dict(self.splits.digests),
            "seed": self.recipe.fields.seed,
        }

    def _context(self, folder: Path, scratch: Path, reporter: Reporter | None = None) -> Context:
        folder.mkdir(exist_ok=True)
        return Context(
            folder=folder,
            scratch=scratch,
            cached=partial(cached, self.store),
            seed=self.recipe.fields.seed,
            train=self.splits.train,
            validation=self.splits.validation,
            teacher=self.teacher,
            reference=self.reference,
            measure=self.time,
            target=self._target,
            progress=reporter.advance if reporter else self._advance,
        )

    def _advance(self, done: float, total: float, what: str = "") -> None:
        """Say how far a stage is, and leave it where the time for the search is over."""
        self.search.check()
        self.reporter.advance(done, total, what)

    def time(self, candidates: Sequence[Candidate]) -> list[tuple[Measurement, ...]]:
        """Time ONNX candidates interleaved on this machine, on validation examples.

        Threads and durations are those of the recipe's `profile`, where it says any.
        """
        from edgecompress.targets.measure import time_interleaved

        profile = self.recipe.fields.profile
        said = {name: profile[name] for name in TRIAL_FIELDS if name in profile}
        return time_interleaved(candidates, self.splits.validation, **said)

    def _target(self, name: str) -> Target:
        """Give the open target that the recipe calls `name`; this machine is always there."""
        return self.targets[name] if name in self.targets else open_target(name)

    def obtain(self, key: str, build: Callable[[Path, Path], None], what: str) -> Path:
        """Take a result from the store, or let `build` make it.

        Raises
        ------
        StageError
            When building it fails in any way but those that our own errors tell.
        """
        try:
            return self.store.obtain(key, build)
        except Exception as error:  # a stage may run any library: its failure is its chain's alone
            if type(error) is StageError:
                raise StageError(in_words(str(error), self.store.root)) from error
            if isinstance(error, EdgeCompressError):
                raise
            cause = str(error).strip().splitlines()
            raise StageError(
                f"{what}: {type(error).__name__}: {cause[0] if cause else 'no message'}"
            ) from error


def _state(place: Target) -> Json:
    """Give what a person may change at a target, so that what was measured before is outdated."""
    if "latency" not in place.metrics:
        return {}
    facts, spec = place.describe(), getattr(place, "spec", None)  # targets made by hand have none
    return {
        "governor": facts.get("governor"),
        "meters": facts.get("meters"),
        "meter": str(spec.meter) if spec is not None and spec.meter else None,
        "any_governor": spec is not None and spec.any_governor,
    }


def _reads_teacher(stage: Stage) -> bool:
    return isinstance(stage, Observer) or (isinstance(stage, Transform) and stage.needs_teacher)


def _read_measurements(folder: Path) -> tuple[Measurement, ...]:
    documents = json.loads((folder / "measurements.json").read_text(encoding="utf-8"))
    return tuple(
        Measurement(**{**d, "interval": tuple(d["interval"]) if d["interval"] else None})
        for d in documents
    )
