"""A recipe: YAML, read strictly, whose forks expand into chains of stages.

Nothing here imports torch or onnxruntime, so that `edgecompress check` answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgecompress.data import DataConfig, data_class, data_config
from edgecompress.engine.budgets import Limits, known_metric, known_target, limits
from edgecompress.engine.chains import (
    Chain,
    Given,
    StageUse,
    chain_names,
    check_joined,
    check_order,
    expand,
    observers_of,
    stage_use,
)
from edgecompress.engine.recipe_paths import absolute_paths, placeless
from edgecompress.errors import DataError, RecipeError
from edgecompress.hub import at_hand
from edgecompress.onnx_folders import onnx_model_at
from edgecompress.results import Limit
from edgecompress.stage import Observer
from edgecompress.targets.fleet import Fleet, find_fleet, load_fleet
from edgecompress.training.new_teacher import NewTeacher
from edgecompress.validation import explain, validated
from edgecompress.values import Candidate, Json, OnnxModel, TorchModel
from edgecompress.yamlfile import Settings, YamlFile, apply_settings, read_yaml


class Strict(BaseModel):
    """Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class TeacherSpec(Strict):
    """Where the teacher comes from: an existing model, or a new one made from the data."""

    model: str | None = None
    """Directory or hub id of a Hugging Face model with its tokenizer."""
    new: NewTeacher | None = None
    """A small model, trained from nothing: a BERT with its own tokenizer, or what `config` says."""
    finetune: dict[str, Any] | None = None
    """Fields of the `finetune` stage; left out: the teacher is ready."""
    labels: dict[str, str] | tuple[str, ...] | Literal["new"] | None = None
    """Names for the classes of its trained head (`{LABEL_0: negative, LABEL_1: positive}`, or all
    of them in order); `new`: a new head for the data's labels, which `finetune` trains."""
    trust: Literal["pickle"] | None = None
    """`pickle` permits a pytorch_model.bin, read with weights_only."""


class RecipeFields(Strict):
    """The keys of a recipe, apart from `stages` and `data`, which are read by their own rules."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)
    """Letters, digits, `.`, `_` and `-`; names the bundle."""
    task: str | None = None
    """What the model answers, such as text-classification; left out only for a foreign ONNX file
    whose answers nobody scores."""
    teacher: TeacherSpec | None = None
    """The model to compress, in PyTorch."""
    model: str | None = None
    """What chains start from instead of the teacher: an ONNX file, a candidate's or a bundle's
    directory, or a Hugging Face directory."""
    labels: dict[str, str] | tuple[str, ...] | Literal["new"] | None = None
    """Of `model`: names for the classes of its trained head, as in `teacher.labels`; of an ONNX
    file alone, of which nothing else says it, all of them in order."""
    preprocessor: dict[str, Any] | None = None
    """How the inputs of `model`, an ONNX file, are made, where no file beside it says that: of
    images `size`, `crop_size`, `resample`, `image_mean`, `image_std` and what else a
    preprocessor_config.json has. Of questions, of any model, how passages are read: `doc_stride`,
    `max_question_len`, `max_answer_len`, `max_seq_len`, `no_answer_threshold`."""
    data: dict[str, Any] | None = None
    """The data files; its keys depend on `format`."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Every random choice derives from it."""
    threads: int | None = Field(default=None, ge=1)
    """How many threads PyTorch computes with while it trains and calibrates; null: as many as it
    finds cores. Given, the bytes of a result do not depend on the number of cores."""
    stages: list[Any] = Field(default_factory=list)
    """Stages in order; `any:` forks into branches."""
    impossible: Literal["refuse", "show"] = "refuse"
    """What becomes of a chain that cannot work on the model: the recipe is refused, or the others
    run and the report shows it with the reason."""
    observers: list[Any] = Field(default_factory=list)
    """What else is measured of every model that it can be measured of: `sensitivity`, or one of
    another package."""
    profile: dict[str, Any] = Field(default_factory=dict)
    """Fields of the `profile` stage: threads, durations, counts."""
    targets: list[str] = Field(default_factory=lambda: ["local"], min_length=1)
    """Where candidates are measured: `local`, `ssh://user@host`, `emulated://cortex-a72`, or a name
    of the fleet."""
    fleet: str | None = None
    """File that names targets; else targets.yaml beside the recipe, in the working directory or in
    the user's configuration folder of edgecompress."""
    licences: dict[Literal["model", "data"], str] = Field(default_factory=dict)
    """What the model that chains start from, and the data, are licensed under: SPDX expressions
    such as `Apache-2.0`, or text; the bundle records it."""
    budget: dict[str, Limits] = Field(default_factory=dict)
    """Bounds by metric, or metric@target; a list of them where all data and every file of it
    have bounds of their own."""
    minimize: str = "size"
    """The metric by which the winner is chosen among those within the budget."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A checked recipe."""

    fields: RecipeFields
    data: DataConfig | None
    chains: tuple[Chain, ...]
    budget: tuple[Limit, ...]
    document: Json
    teacher_finetune: StageUse | None = None
    observers: tuple[Observer, ...] = ()
    fleet: Fleet = field(default_factory=Fleet)
    misordered: tuple[str | None, ...] = ()
    """Of each chain why its order cannot work, where `impossible` is ``show``; None: it can."""
    written: Json = field(default_factory=dict)
    """The document without places: of a path its last part, and no folder of the data."""
    file: Path | None = None
    source: YamlFile = field(repr=False, default=YamlFile({}, None, {}))

    @property
    def names(self) -> tuple[str, ...]:
        """A short unique name per chain, made of what differs between chains."""
        return chain_names(self.chains)


def load_recipe(file: Path, settings: Settings = (), *, complete: bool = True) -> Recipe:
    """Read a recipe, lay `settings` over it and check its keys, types and order of stages.

    Parameters
    ----------
    file : Path
        The YAML file; relative paths in it are relative to its folder.
    settings : mapping of str to object, or sequence of str
        Fields by their keys, or ``key=value`` of each; paths given here are relative to the
        working directory.
    complete : bool
        False for a single stage run from the command line: the chain may end in PyTorch.

    Raises
    ------
    RecipeError, DataError
        At the first thing that is wrong.
    """
    parsed = read_yaml(file)
    if not isinstance(parsed.document, dict):
        raise RecipeError("a recipe is a mapping of keys", file=file, line=1)
    base = absolute_paths(parsed.document, file.parent, corpora=())
    document = apply_settings(base, settings)
    document = absolute_paths(document, Path.cwd(), corpora=(file.parent, Path.cwd()))
    return build_recipe(YamlFile(document, file, parsed.lines), complete=complete)


def build_recipe(source: YamlFile, *, complete: bool = True) -> Recipe:
    """Check a parsed document and give the recipe; see `load_recipe`."""
    document = source.document
    if isinstance(document, dict) and "matrix" in document:
        raise source.error(
            "this recipe is a matrix of several, which `edgecompress run` and `check` expand; "
            "name a recipe without it here",
            ("matrix",),
        )
    fields = validated(RecipeFields, document, (), source)
    if fields.teacher is None and fields.model is None:
        raise source.error("name a teacher, or a model to work on", ())
    if fields.teacher and (fields.teacher.model is None) == (fields.teacher.new is None):
        raise source.error("give either model or new", ("teacher",))
    from edgecompress.tasks import task, wanted

    tuning = None
    if fields.teacher and fields.teacher.finetune is not None:
        tuning = stage_use("finetune", fields.teacher.finetune, ("teacher", "finetune"), source)
    if fields.teacher and fields.task is None:
        raise source.error("a teacher needs a task", ("task",))
    if fields.task is not None:
        try:
            task(fields.task)
        except DataError as error:
            raise source.error(error.message, ("task",)) from None
        if fields.teacher and fields.teacher.new:
            try:
                fields.teacher.new.check(fields.task)
            except DataError as error:
                raise source.error(error.message, ("teacher", "new")) from None
    if fields.preprocessor is not None:
        _check_preprocessor(fields, source)
    data = None
    if fields.data is not None:
        try:
            data = data_config(fields.data)
            if fields.task is not None:
                data = data.for_task(wanted(task(fields.task)))
        except ValidationError as error:
            kind = data_class(fields.data["format"])
            raise explain(error, ("data",), source, type_of=kind) from None
        except DataError as error:
            raise source.error(error.message, ("data",)) from None
    chains = expand(fields.stages, ("stages",), source)
    observers = observers_of(fields.observers, source)
    start = OnnxModel if starts_as_onnx(fields.model) else TorchModel
    given = Given(data=fields.data is not None, teacher=fields.teacher is not None)
    misordered: list[str | None] = []
    for chain in chains:
        try:
            check_order(chain, start, given, source, complete=complete)
            if complete and start is TorchModel and fields.task and task(fields.task).in_parts:
                check_joined(chain, source)
        except RecipeError as error:
            if fields.impossible == "refuse":
                raise
            misordered.append(error.message)
        else:
            misordered.append(None)
    if fields.teacher and (fields.teacher.new or fields.teacher.finetune) and data is None:
        raise source.error("training the teacher needs data", ("data",))
    budget = tuple(limits(fields.budget, fields.task, fields.targets, source))
    metric, at, target = fields.minimize.partition("@")
    known_metric(metric, source, ("minimize",))
    if at:
        known_target(target, fields.targets, source, ("minimize",))
    fleet = _fleet(fields, source)
    return Recipe(
        fields=fields,
        data=data,
        chains=chains,
        teacher_finetune=tuning,
        observers=observers,
        budget=budget,
        document=document,
        fleet=fleet,
        misordered=tuple(misordered),
        written=placeless(document),
        file=source.file,
        source=source,
    )


def _check_preprocessor(fields: RecipeFields, source: YamlFile) -> None:
    """Check what is said of a model's inputs, before the model is looked at."""
    from edgecompress.processors import processor_class
    from edgecompress.tasks import task

    try:
        kind = processor_class(task(fields.task).processor) if fields.task is not None else None
        if kind is None or not (kind.settled or starts_as_onnx(fields.model)):
            what = "it says how an ONNX file's inputs are made; name its task and it (task, model)"
            raise DataError(what)
        kind.check_description(fields.preprocessor or {})
    except DataError as error:
        raise source.error(error.message, ("preprocessor",)) from None


def _fleet(fields: RecipeFields, source: YamlFile) -> Fleet:
    """Read the fleet, and see that it or their form tells what the recipe's targets are."""
    if fields.fleet is not None:
        fleet = load_fleet(Path(fields.fleet))
    else:
        fleet = find_fleet(*([source.file.parent] if source.file else []))
    for name in fields.targets:
        try:
            fleet.find(name)
        except RecipeError as error:
            raise source.error(error.message, ("targets",)) from None
    if len(set(fields.targets)) < len(fields.targets):
        raise source.error("a target is named twice", ("targets",))
    return fleet


def starts_as_onnx(model: str | None) -> bool:
    """Whether `model` of a recipe is ONNX: a file, a folder of one, a bundle, a candidate."""
    if model is None:
        return False
    path = at_hand(model)
    if (path / "candidate.json").is_file():
        return isinstance(Candidate.load(path).model, OnnxModel)
    if path.suffix == ".onnx" or path.is_file() or (path / "manifest.json").is_file():
        return True
    return onnx_model_at(path) is not None
