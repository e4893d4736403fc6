"""One stage or one observer from the command line: a one-stage recipe built in memory.

There is no second code path: the same recipe rules, the same store, the same pipeline.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from edgecompress.data import Split
from edgecompress.engine.chains import export_chain
from edgecompress.engine.floor import Standing, measured_floor
from edgecompress.engine.opening import open_start
from edgecompress.engine.pipeline import Pipeline
from edgecompress.engine.recipe import Recipe, build_recipe, load_recipe
from edgecompress.engine.run import observers
from edgecompress.engine.run_directory import export_candidate
from edgecompress.engine.splits import read_splits
from edgecompress.errors import DataError, EdgeCompressError, RecipeError
from edgecompress.hub import check_name
from edgecompress.onnx_folders import onnx_model_at
from edgecompress.processors import processor_class
from edgecompress.progress import Reporter
from edgecompress.reading import read_json
from edgecompress.stage import Observer, stage_class, stage_modules
from edgecompress.store import Store, default_store
from edgecompress.tasks import task as find_task
from edgecompress.tasks import task_names, unanswered
from edgecompress.validation import REQUIRED
from edgecompress.values import CANDIDATE_BYTES, Candidate, Json, Measurement, OnnxModel
from edgecompress.writing import put, sweep, writing
from edgecompress.yamlfile import Settings, YamlFile, apply_settings


def guess_task(model: Path) -> str | None:
    """Read the task from a candidate's, a bundle's or a Hugging Face directory.

    Raises
    ------
    DataError
        When what describes the model there cannot be read, or it does what no task here does.
    """
    for name in ("candidate.json", "manifest.json"):
        if (model / name).is_file():
            found = _described(model / name).get("task")
            return str(found) if found else None
    if (model / "config.json").is_file():
        named = _described(model / "config.json").get("architectures")
        tasks = [find_task(name) for name in task_names()]
        own = [task for task in tasks if processor_class(task.processor).is_named_in(model)]
        for architecture in map(str, named if isinstance(named, list) else ()):
            for task in own:  # Wav2Vec2ForSequenceClassification is given no text
                if architecture.endswith(task.head_classes) and task.lacks_head(model) is None:
                    return task.name
            for task in tasks:
                # Its first one: a model that was saved as ForPreTraining is one of several kinds.
                fits = architecture.endswith(task.head_classes[0])
                if fits and task.lacks_head(model) is None:
                    return task.name
        for task in tasks:
            if any((model / name).is_file() for name in task.marks):
                return task.name
        said = unanswered(str(named[0])) if isinstance(named, list) and named else ""
        if said:
            raise DataError(said, file=model)
    return None


def _described(file: Path) -> Json:
    again = "copy the model again"
    try:
        found = read_json(file, CANDIDATE_BYTES)
    except DataError as error:
        raise DataError(f"{error.message}; {again}", file=file, line=error.line) from None
    if not isinstance(found, dict):
        raise DataError(f"not the description of a model; {again}", file=file)
    return found


def single_recipe(
    model: str,
    stage: str | None,
    *,
    like: Path | None = None,
    teacher: str | None = None,
    task: str | None = None,
    settings: Settings = (),
    data_settings: Settings = (),
) -> Recipe:
    """Build the recipe of one stage (or, with None, of no stage) applied to `model`.

    Parameters
    ----------
    model : str
        An ONNX file, a candidate's, bundle's or Hugging Face directory, or a hub id.
    stage : str or None
        Name of the stage.
    like : Path, optional
        A recipe whose task, data, seed, teacher, profile and targets are taken over.
    teacher : str, optional
        Directory or hub id of the teacher (for `distil`).
    task : str, optional
        Task; else that of `like`, else read from the model.
    settings : mapping of str to object, or sequence of str
        Fields of the stage, or ``field=value`` of each.
    data_settings : mapping of str to object, or sequence of str
        Fields of the recipe, such as ``data.root=DIR``.
    """
    _check_model(Path(model), model, stage)
    document: Json = {}
    if like is not None:
        document = dict(load_recipe(like, data_settings).document)
    else:
        document = dict(apply_settings({}, data_settings, "--set-recipe"))
    document["name"] = "single"
    document["stages"] = []
    document.pop("budget", None)
    known = task or document.get("task") or guess_task(Path(model))
    if known:
        document["task"] = known
    place = str(Path(model).absolute()) if Path(model).exists() else model
    given = document.get("teacher")
    section: Json = given if isinstance(given, dict) else {}
    named = section.get("labels")
    if named is not None and section.get("model") == place:
        document.setdefault("labels", named)
    if teacher is not None:
        document["teacher"] = {"model": teacher, **({"labels": named} if named else {})}
    elif like is None or stage != "distil":
        document.pop("teacher", None)
    document["model"] = place
    if stage is not None:
        fields = apply_settings({}, settings)
        document["stages"] = [{stage: fields}]
    try:
        return build_recipe(YamlFile(document, None, {}), complete=False)
    except RecipeError as error:
        prefix = f"stages[0].{stage}"
        named = error.message.startswith(f"{stage} ")
        key = "" if named else error.key.replace(prefix, str(stage))
        field = error.key.removeprefix(f"{prefix}.")
        lacks = error.message == REQUIRED and field != error.key
        message = f"{REQUIRED}; give --set {field}=VALUE" if lacks else error.message
        raise RecipeError(message, file=error.file, line=error.line, key=key) from None


def _check_model(place: Path, model: str, stage: str | None) -> None:
    """Refuse what can be no model, before anything is said of what it would have to be."""
    if place.is_dir():
        described = any(place.glob("*.json")) or any(place.glob("*/*.json"))
        if not described and onnx_model_at(place) is None:
            raise DataError("this folder holds no model", file=place)
    elif not place.exists():
        if model.endswith(".onnx") or model.startswith((".", "/")):
            raise DataError("there is no such model", file=place)
        check_name(model)
        if stage in stage_modules() and stage_class(stage).accepts == (OnnxModel,):
            raise DataError(f"there is no such model here; {stage} takes an ONNX model", file=place)


def apply_one(
    recipe: Recipe, output: Path, store: Path | None, reporter: Reporter
) -> tuple[Candidate, Candidate]:
    """Apply the recipe's one stage and write the new candidate to `output`.

    Returns
    -------
    before, after : Candidate
    """
    sweep(output)  # what killed commands left in an empty directory is nothing to be kept
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise EdgeCompressError(f"{output} is there already; name another -o")
    with contextlib.ExitStack() as stack:
        try:
            aside = stack.enter_context(writing(output))
        except OSError as error:
            raise EdgeCompressError(f"{output} cannot be written ({error.strerror})") from None
        use = recipe.chains[0][0]
        needed: tuple[Split, ...] = ("train", "validation") if use.stage.reads_examples() else ()
        pipeline, start = _open(recipe, store, reporter, needed)
        result = pipeline.run_chain(recipe.chains[0], start).candidate
        if output.suffix == ".onnx" and isinstance(result.model, OnnxModel):
            if len(list(result.model.directory.iterdir())) > 1:
                what = "several parts" if result.model.parts else "external data"
                raise EdgeCompressError(f"the model has {what}; give -o a directory")
            shutil.copyfile(result.model.path, aside / "made")
            put(aside / "made", output)
            return start, result
        export_candidate(result, aside / "made")
        put(aside / "made", output)
    return start, Candidate.load(output)


def evaluate_one(
    recipe: Recipe, store: Path | None, reporter: Reporter, split: Split
) -> tuple[tuple[Measurement, ...], Standing | None]:
    """Score the recipe's model on `split` (``validation`` or ``test``), and the task's floor."""
    if recipe.data is None:
        raise DataError(f"there are no examples to ask; give --{split} FILE, or --recipe RECIPE")
    pipeline, start = _open(recipe, store, reporter, (split,))
    try:
        if start.task is None:
            raise DataError(
                "a graph alone answers no examples; give the folder that `edgecompress export` or "
                "`quantize` wrote, or one with config.json and a tokenizer beside the graph",
                file=Path(str(recipe.fields.model)),
            )
        if split == "validation":
            found = pipeline.observe(observers(recipe).evaluate, start)
            return found, measured_floor(pipeline, start, pipeline.splits.validation, split)
        test = recipe.data.read("test")
        return pipeline.observe_test(start, test), measured_floor(pipeline, start, test, split)
    finally:
        pipeline.close()


def observe_one(
    recipe: Recipe, observer: Observer, store: Path | None, reporter: Reporter
) -> tuple[Measurement, ...]:
    """Measure the recipe's model by one observer that is not asked on targets."""
    pipeline, start = _open(recipe, store, reporter, ())
    try:
        return pipeline.observe(observer, start)
    finally:
        pipeline.close()


Profiled = tuple[Measurement, ...] | EdgeCompressError
"""What was measured of a model, or why nothing could be."""


def profile_models(
    recipes: Sequence[Recipe], store: Path | None, reporter: Reporter, *, compare: bool = False
) -> list[Profiled]:
    """Measure the models of recipes that differ in nothing else, one after the other.

    Parameters
    ----------
    recipes : sequence of Recipe
        With a teacher, times are also taken against its fp32 export.
    store : Path or None
        The default one when None.
    reporter : Reporter
    compare : bool
        Interleave the second of two models with the first: `speedup` is the first's time over the
        second's.

    Returns
    -------
    list
        For each recipe (of a comparison: for both together) what was measured, or the error that
        its model gave. Connections to boards are shared.

    Raises
    ------
    EdgeCompressError
        When something that all of them share is wrong.
    """
    first = recipes[0]
    observers(first)  # says what is wrong with the fields before anything is opened
    pipeline = _pipeline(first, store, reporter, ("validation",))
    try:
        if compare:
            earlier, later = (open_start(_other(pipeline, recipe)) for recipe in recipes)
            if not isinstance(earlier.model, OnnxModel) or not isinstance(later.model, OnnxModel):
                raise DataError("--compare takes two ONNX models; export what is in PyTorch")
            pipeline.reference = earlier
            return [_profiled(pipeline, later)]
        found: list[Profiled] = []
        for recipe in recipes:
            if len(recipes) > 1:
                reporter.section(Path(str(recipe.fields.model)).name)
            try:
                other = _other(pipeline, recipe)
                start = open_start(other)
                if other.teacher is not None:
                    chain = export_chain(other.recipe.fields.task)
                    other.reference = other.run_chain(chain, other.teacher).candidate
                found.append(_profiled(other, start))
            except EdgeCompressError as error:
                if len(recipes) == 1:
                    raise
                reporter.end(f"failed: {error}")
                found.append(error)
        return found
    finally:
        pipeline.close()


def _profiled(pipeline: Pipeline, start: Candidate) -> tuple[Measurement, ...]:
    watch = observers(pipeline.recipe)
    return pipeline.observe(watch.size, start) + pipeline.observe(watch.profile, start)


def _other(pipeline: Pipeline, recipe: Recipe) -> Pipeline:
    """Give a pipeline for another model that uses the open targets of `pipeline`."""
    other = Pipeline(recipe, pipeline.store, pipeline.splits, pipeline.reporter)
    other.targets = pipeline.targets
    return other


def _pipeline(
    recipe: Recipe, store: Path | None, reporter: Reporter, needed: Sequence[Split]
) -> Pipeline:
    place = Store(store or default_store())
    place.sweep()
    for split in needed:
        if recipe.data is not None and not recipe.data.offers(split):
            raise DataError(f"this needs {split} examples, and there are none; give --{split} FILE")
    splits, _ = read_splits(recipe, needed)
    return Pipeline(recipe, place, splits, reporter)


def _open(
    recipe: Recipe, store: Path | None, reporter: Reporter, needed: Sequence[Split]
) -> tuple[Pipeline, Candidate]:
    pipeline = _pipeline(recipe, store, reporter, needed)
    return pipeline, open_start(pipeline)
