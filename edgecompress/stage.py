"""What a stage is, how stages are found, and the proof that one keeps the contract.

A stage is a frozen pydantic model: its fields are its hyper-parameters, validated when it is made.
Data comes only to its methods. The file's path is the stage's name: ``stages/quantize/static.py``
is ``quantize.static``; files that start with ``_`` are no stages. A third party adds stages with an
entry point of the group ``edgecompress.stages`` whose name is the stage's and whose value names the
class. Modules import torch, transformers, onnx and onnxruntime inside their functions, so that a
recipe can be checked without them.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from edgecompress.context import Context as Context
from edgecompress.context import not_here
from edgecompress.errors import StageError
from edgecompress.onnx_files import model_digests
from edgecompress.parts import applied_by_part, several
from edgecompress.values import (
    Candidate,
    Example,
    Json,
    Measurement,
    OnnxModel,
    Step,
    TorchModel,
    directory_digests,
)
from edgecompress.writing import temporary

Kind = type[TorchModel] | type[OnnxModel]


class Stage(BaseModel):
    """Common ground of transforms and observers: strict, frozen, named by its file."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    accepts: ClassVar[tuple[Kind, ...]] = ()
    also_called: ClassVar[tuple[str, ...]] = ()
    """What others call the same thing: who writes that in a recipe is told the stage's name."""

    @classmethod
    def stage_name(cls) -> str:
        """Give the name that a recipe uses."""
        prefix = "edgecompress.stages."
        if cls.__module__.startswith(prefix):
            return cls.__module__.removeprefix(prefix)
        for point in entry_points(group="edgecompress.stages"):
            if point.value == f"{cls.__module__}:{cls.__qualname__}":
                return point.name
        return cls.__module__

    def identity(self) -> Json:
        """Give the parameters as a result depends on them.

        A stage whose fields name a file gives the file's digest instead: what it holds matters,
        not where it lies.
        """
        return self.model_dump(mode="json")

    def for_part(self, name: str) -> Self:  # noqa: ARG002
        """Give the stage as it works on one part of a model; its data may lie apart by part."""
        return self

    def check_task(self, name: str) -> None:  # noqa: ARG002
        """Refuse a task, by its name, that it can do nothing for, before any work starts.

        Raises
        ------
        DataError
            Saying why.
        """
        return

    def check_examples(self, examples: Sequence[Example]) -> None:  # noqa: ARG002
        """Check what the fields say of the training examples, before any work starts.

        Raises
        ------
        DataError
            When something that they name is not there.
        """
        return

    def check_inputs(self) -> None:
        """Check what the fields name on disk (a calibration set), before any work starts.

        Raises
        ------
        DataError
            When something is missing or malformed.
        """


@dataclass(frozen=True, slots=True)
class Decisions:
    """What a transform found out before it wrote anything.

    Attributes
    ----------
    record : dict
        What `Transform.make` is to follow, as JSON. It goes into the step, and is given again when
        the model is made again; then it holds all of the step's decisions.
    measured : dict
        By what it was decided, as JSON: timings and scores, which differ from one time to the next.
    made : object
        What deciding has computed already and making would compute again, such as the model that
        was tried last. No part of the record: `make` gives the same bytes without it.
    """

    record: Json = field(default_factory=dict)
    measured: Json = field(default_factory=dict)
    made: Any = field(default=None, compare=False, repr=False)


class Transform(Stage, ABC):
    """A stage that takes a candidate and returns another: it decides, and makes what it decided.

    One that decides nothing has one method, `make`.

    ``needs_data`` says that it reads examples, ``needs_teacher`` that it reads the teacher,
    ``needs_family`` that it works on parts which a family must describe (`surgery.families`);
    ``lossless`` that it may also be applied to the fp32 reference (graph options); ``distributed``
    that under ``accelerate launch`` all processes apply it at once, because it trains by
    `training.fit` and decides nothing by chance or by measuring; ``keeps_ranges`` that activation
    ranges which training has learned (`Candidate.ranges`) hold for its result, which carries them;
    ``by_part`` that a model of several graphs is worked on part by part, those that the field
    ``part`` names where there is one.
    """

    yields: ClassVar[Kind]
    needs_data: ClassVar[bool] = False
    needs_teacher: ClassVar[bool] = False
    needs_family: ClassVar[bool] = False
    lossless: ClassVar[bool] = False
    keeps_ranges: ClassVar[bool] = False
    distributed: ClassVar[bool] = False
    by_part: ClassVar[bool] = True

    def reads_examples(self) -> bool:
        """Whether it reads examples as its fields stand: one that was given other data may not."""
        return self.needs_data

    def trains_head(self) -> bool:
        """Whether it trains the model's head, so that one that nobody has trained may come in."""
        return False

    def leaves_quantizing(self) -> bool:
        """Whether another stage of ``quantize.`` may follow, because layers are still in fp32."""
        return False

    @classmethod
    def check_model(cls, folder: Path) -> None:
        """Refuse, by its files alone and before any work starts, a model that it cannot work on.

        Parameters
        ----------
        folder : Path
            A checkpoint: config.json and weights.

        Raises
        ------
        DataError
            Saying why.
        """

    def decide(self, candidate: Candidate, context: Context) -> Decisions:  # noqa: ARG002
        """Find out what `make` is to do, by measuring or searching; nothing where all is given.

        It is not asked when a model is made again: then `make` follows the record. What it writes
        below ``context.folder`` beside ``model`` it removes again.
        """
        return Decisions()

    @classmethod
    def tell(cls, step: Step) -> str:  # noqa: ARG003
        """Say in a sentence what a step of this stage did, for the report.

        Without it, and where it gives an empty text, the step is told by its parameters. A record
        may be of another version, or a stranger's: what is not as expected is left out. Changing
        the sentence changes no result, so that store keys leave this method out.
        """
        return ""

    @abstractmethod
    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Make the new candidate's files under ``context.folder`` and describe it.

        The same candidate and the same record give the same bytes (`check_stage` proves it). Return
        ``candidate.with_model(model, **found)``, where `found` is what making it showed (an epoch,
        a difference); it stands in the step beside what was decided.
        """

    def apply(
        self, candidate: Candidate, context: Context, recorded: Json | None = None
    ) -> Candidate:
        """Decide, or follow what was recorded, and make; part by part where there are several.

        Parameters
        ----------
        candidate : Candidate
        context : Context
        recorded : dict, optional
            The decisions of the step that made this model the first time.

        Returns
        -------
        Candidate
            Whose last step holds all that was decided and found; the pipeline fills in its name,
            its parameters and its duration.
        """
        if several(candidate) and self.by_part:
            return applied_by_part(self, candidate, context, recorded)
        decisions = self.decide(candidate, context) if recorded is None else Decisions(recorded)
        made = self.make(candidate, decisions, context)
        if made.steps[:-1] != candidate.steps or len(made.steps) != len(candidate.steps) + 1:
            name = self.stage_name()
            raise StageError(f"{name} must append exactly one step (use candidate.with_model)")
        step = made.steps[-1]
        step = replace(
            step,
            decisions={**decisions.record, **step.decisions},
            measured={**decisions.measured, **step.measured},
        )
        return replace(made, steps=(*candidate.steps, step))


class Observer(Stage, ABC):
    """A stage that takes a candidate and returns measurements.

    One whose fields include ``target`` measures on that target; the pipeline makes a copy of it
    for each target of the recipe and keeps their results apart, so that a board that falls silent
    spoils nothing else.

    ``by_part`` says that a model of several graphs is measured part by part; ``measures`` names the
    metrics that its `files` tell of.
    """

    by_part: ClassVar[bool] = True
    measures: ClassVar[tuple[str, ...]] = ()

    def takes(self, candidate: Candidate) -> bool:
        """Whether a run that names it measures `candidate`."""
        return isinstance(candidate.model, self.accepts)

    def files(self, model: str, found: Sequence[Measurement]) -> Mapping[str, str]:  # noqa: ARG002
        """Give files that tell what was measured, by their names: pages, JSON.

        Parameters
        ----------
        model : str
            The model's name.
        found : sequence of Measurement
            Of the metrics in `measures`.
        """
        return {}

    @abstractmethod
    def observe(self, candidate: Candidate, context: Context) -> tuple[Measurement, ...]:
        """Measure `candidate` without changing it."""


@functools.cache
def stage_modules() -> dict[str, str]:
    """Map of stage name to ``module`` or ``module:class``, ours and those of entry points."""
    root = importlib.import_module("edgecompress.stages")  # by name: stages stand above this room
    found = {}
    for module in pkgutil.walk_packages(root.__path__, root.__name__ + "."):
        name = module.name.removeprefix(root.__name__ + ".")
        if not module.ispkg and not any(part.startswith("_") for part in name.split(".")):
            found[name] = module.name
    for point in entry_points(group="edgecompress.stages"):
        found.setdefault(point.name, point.value)
    return found


def stage_class(name: str) -> type[Stage]:
    """Find the class of the stage `name`.

    Raises
    ------
    KeyError
        When there is no such stage.
    StageError
        When its module does not define exactly one stage.
    """
    module_name, _, class_name = stage_modules()[name].partition(":")
    module = importlib.import_module(module_name)
    if class_name:
        found: type[Stage] = getattr(module, class_name)
        return found
    classes = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Stage)
        and value.__module__ == module_name
        and not inspect.isabstract(value)
        and not value.__name__.startswith("_")
    ]
    if len(classes) != 1:
        raise StageError(f"{module_name} must define one stage, not {len(classes)}")
    return classes[0]


def checked(
    stage: Transform, candidate: Candidate, context: Context, recorded: Json | None = None
) -> Candidate:
    """Apply a transform to `candidate`, see that it keeps the contract, and give its result.

    Checked: it accepts the model's kind, yields what it says, writes only below
    ``context.folder``, leaves its input and the teacher as they were (digests before and after),
    appends one step with JSON decisions, and keeps its parameters through a round trip.

    Raises
    ------
    StageError
        Naming the stage and the first promise that it breaks.
    """
    name = stage.stage_name()
    if not isinstance(candidate.model, stage.accepts):
        raise StageError(f"{name} does not accept a {type(candidate.model).__name__}")
    if type(stage).model_validate(stage.model_dump(mode="json")) != stage:
        raise StageError(f"{name}: parameters change in a JSON round trip")
    models = [candidate.model, *([context.teacher.model] if context.teacher else [])]
    folders = [candidate.preprocessor] if candidate.preprocessor else []

    def watched() -> list[dict[str, str]]:
        return [*map(model_digests, models), *map(directory_digests, folders)]

    before = watched()
    result = stage.apply(candidate, context, recorded)
    if watched() != before:
        raise StageError(f"{name} changed its input or the teacher in place")
    if not isinstance(result.model, stage.yields):
        raise StageError(f"{name} promised a {stage.yields.__name__} and gave another")
    if not result.model.directory.is_relative_to(context.folder):
        raise StageError(f"{name} did not write its model below its folder")
    try:
        json.dumps(result.steps[-1].decisions)
    except TypeError as error:
        raise StageError(f"{name}: decisions are not JSON ({error})") from None
    return result


def check_stage(stage: Transform, candidate: Candidate, context: Context) -> Candidate:
    """Prove on `candidate` that a transform keeps the contract, and give its result.

    Beside what `checked` sees, its recorded decisions must give the same again: the model is made a
    second time from them, in a fresh folder and without measuring, and files and decisions are
    compared. `tell` must say what they are: a report takes a sentence that fails for none.

    Raises
    ------
    StageError
        Naming the stage and the first promise that it breaks.
    """
    result = checked(stage, candidate, context)
    recorded = json.loads(json.dumps(result.steps[-1].decisions))
    try:
        stage.tell(replace(result.steps[-1], decisions=recorded))
    except Exception as error:
        what = f"it cannot tell its own step ({type(error).__name__}: {error})"
        raise StageError(f"{stage.stage_name()}: {what}") from error
    with temporary() as place:
        for name in ("folder", "scratch"):
            (place / name).mkdir()
        fresh = replace(
            context,
            folder=place / "folder",
            scratch=place / "scratch",
            measure=not_here,
            target=not_here,
        )
        again = checked(stage, candidate, fresh, recorded)
        pairs: dict[str, tuple[Json, Json]] = {
            "model": (model_digests(result.model), model_digests(again.model)),
            "preprocessor": (_files(result), _files(again)),
            "decisions": (recorded, json.loads(json.dumps(again.steps[-1].decisions))),
        }
    for what, (first, second) in pairs.items():
        keys = sorted({*first, *second})
        differ = [key for key in keys if first.get(key) != second.get(key)]
        if differ:
            raise StageError(
                f"{stage.stage_name()}: what it recorded gives another {what} ({', '.join(differ)})"
            )
    return result


def _files(candidate: Candidate) -> dict[str, str]:
    return directory_digests(candidate.preprocessor) if candidate.preprocessor else {}
