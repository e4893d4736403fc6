"""The models that a recipe names, looked at before anything is loaded: their places and heads.

No torch. What a checkpoint's files cannot tell is found when it is loaded (`training.teacher`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from edgecompress.checkpoint import check_folder, find_weights
from edgecompress.engine.chains import StageUse
from edgecompress.engine.recipe import Recipe, TeacherSpec
from edgecompress.errors import DataError
from edgecompress.hub import at_hand, cached_folder, check_name
from edgecompress.onnx_folders import onnx_model_at
from edgecompress.reading import at_home
from edgecompress.surgery.families import check_directory
from edgecompress.tasks import task as find_task
from edgecompress.training.heads import (
    HeadRules,
    check_labels,
    class_names,
    labels_of_new,
    new_head,
    renamed,
    untrained,
)
from edgecompress.values import Candidate, Example, OnnxModel, TorchModel
from edgecompress.yamlfile import KeyPath

AT_TOP = " at the top of the recipe"
ON_COMMAND_LINE = " (here: --set-recipe 'labels={…}')"


def folders_of(recipe: Recipe) -> tuple[Path, ...]:
    """Give the folders that a recipe's paths are relative to, beside the working directory."""
    return (recipe.file.parent,) if recipe.file else ()


def teacher_head(recipe: Recipe) -> HeadRules:
    """Say whether the teacher's head may be new: where it is fine-tuned."""
    spec = recipe.fields.teacher
    return HeadRules(
        trained_later=spec is not None and spec.finetune is not None,
        advice="add `finetune: {}` under `teacher`" if recipe.source.file else HeadRules().advice,
        renaming=spec.labels if spec else None,
        where=" under `teacher`",
    )


def model_head(recipe: Recipe) -> HeadRules:
    """Say whether the head of `model` may be new: where every chain trains it."""
    left = [
        name
        for name, chain in zip(recipe.names, recipe.chains, strict=True)
        if not any(use.stage.trains_head() for use in chain)
    ]
    file = recipe.source.file
    chain = f"put `finetune` before the export of the chain {left[0]!r}" if left else ""
    return HeadRules(
        trained_later=bool(recipe.chains) and not left,
        advice=chain if file else HeadRules().advice,
        renaming=recipe.fields.labels,
        where=AT_TOP if file else ON_COMMAND_LINE,
    )


def label_names(task: str | None, train: Sequence[Example]) -> tuple[str, ...]:
    """Give the labels of the training examples; none where there is no task or no data."""
    return find_task(task).label_names(train) if task and train else ()


def check_models(recipe: Recipe, labels: Sequence[str]) -> None:
    """Check what the stages read, and the teacher and the model as far as their files tell.

    Parameters
    ----------
    recipe : Recipe
    labels : sequence of str
        Of the training data; empty where there is none.

    Raises
    ------
    RecipeError
        At the first thing that would stop a run, or make its results guesses.
    """
    fields, left_out = recipe.fields, impossible(recipe)
    pairs = zip(recipe.names, recipe.chains, strict=True)
    chains = [chain for name, chain in pairs if name not in left_out]
    if not chains:
        name, why = next(iter(left_out.items()))
        raise recipe.source.error(f"no chain can work on this model; {name}: {why}", ("stages",))
    tuning = (recipe.teacher_finetune,) if recipe.teacher_finetune else ()
    uses = tuple(itertools.chain(*chains))
    for use in (*uses, *tuning):
        try:
            use.stage.check_inputs()
        except DataError as error:
            raise recipe.source.error(str(error), use.path) from None
        if found := _objection(recipe, use):
            raise recipe.source.error(": ".join(map(str, found)), use.path)
    spec, rules = fields.teacher, teacher_head(recipe)
    check_sections(recipe)
    if spec is not None and spec.model is not None:
        _check(recipe, spec, rules, labels, ("teacher", "model"))
    check_parts(recipe)
    if fields.model is not None and not _is_onnx(at_hand(fields.model)):
        named = TeacherSpec(model=fields.model, labels=fields.labels)
        _check(recipe, named, model_head(recipe), labels, ("model",))
    elif isinstance(fields.labels, tuple):
        unnamed = [one for one in labels if one not in fields.labels]
        if unnamed:
            raise recipe.source.error(
                f"the data has {unnamed[0]!r}, which is none of these; name all classes of the "
                "graph, in its order, as the data calls them",
                ("labels",),
            )
    for use in uses:
        for other in getattr(use.stage, "teachers", ()):
            if other.model is not None:  # its labels must be the student's, which training says
                _check(recipe, TeacherSpec(model=other.model), HeadRules(), (), use.path)


def impossible(recipe: Recipe) -> dict[str, str]:
    """Give the chains that cannot work on the recipe's model, by name, each with the reason.

    Empty where such a chain is refused with the whole recipe.
    """
    found: dict[str, str] = {}
    if recipe.fields.impossible == "refuse":
        return found
    for name, chain, why in zip(recipe.names, recipe.chains, recipe.misordered, strict=True):
        objections = (_objection(recipe, use) for use in chain)
        told = (why,) if why is not None else next(filter(None, objections), None)
        if told is not None:
            found[name] = ": ".join(
                one.message if isinstance(one, DataError) else one for one in told
            )
    return found


def _objection(recipe: Recipe, use: StageUse) -> tuple[str | DataError, ...] | None:
    """Say why a stage cannot work on the recipe's task and model; None where it can."""
    task = recipe.fields.task
    try:
        if task is not None:
            use.stage.check_task(task)
    except DataError as error:
        return (error,)
    try:
        _check_kind(task, use)
        _check_family(recipe, use)
    except DataError as error:
        return use.name, error
    return None


def check_sections(recipe: Recipe) -> None:
    """Refuse a teacher made from nothing that is not trained, and labels of no model.

    Raises
    ------
    RecipeError
        Saying where what is missing belongs.
    """
    spec = recipe.fields.teacher
    if recipe.fields.labels is not None and recipe.fields.model is None:
        what = "these name the classes of `model`; write the teacher's under `teacher`"
        raise recipe.source.error(what, ("labels",))
    if spec is not None and spec.new is not None and spec.finetune is None:
        advice = teacher_head(recipe).advice
        raise recipe.source.error(f"a new teacher knows nothing; {advice}", ("teacher",))


def check_start(recipe: Recipe, start: Candidate, labels: Sequence[str]) -> None:
    """Refuse a model to start from that answers another task, or lacks labels of the data.

    Raises
    ------
    DataError
        Naming both.
    """
    wanted = recipe.fields.task
    if wanted not in (None, start.task) and start.task is not None:
        raise DataError(f"the model answers {start.task}, and the recipe's task is {wanted}")
    if start.labels:
        check_labels(start.labels, labels, model_head(recipe).where)


def _check(
    recipe: Recipe, spec: TeacherSpec, rules: HeadRules, labels: Sequence[str], path: KeyPath
) -> None:
    try:
        _check_one(recipe, spec, rules, labels)
    except DataError as error:
        raise recipe.source.error(str(error), path) from None


def _check_family(recipe: Recipe, use: StageUse) -> None:
    """Refuse a stage that cuts a model which it cannot cut: no family describes its parts, say."""
    spec = recipe.fields.teacher
    model = recipe.fields.model or (spec.model if spec else None)
    if model is None:
        return
    place = at_hand(model)  # of the hub and not fetched yet: looked at when it is
    folder = place / "model" if (place / "candidate.json").is_file() else place
    if (folder / "config.json").is_file():
        if use.stage.needs_family:
            check_directory(folder)
        use.stage.check_model(folder)


def _check_kind(task: str | None, use: StageUse) -> None:
    """Refuse a stage that changes a model of a kind that can only be exported yet."""
    why = find_task(task).unchanged if task is not None else None
    if why and TorchModel in use.stage.accepts and use.name != "export":
        raise DataError(f"{why}; leave it out")


def _check_one(recipe: Recipe, spec: TeacherSpec, rules: HeadRules, labels: Sequence[str]) -> None:
    model, task = str(spec.model), recipe.fields.task
    place = at_home(model)
    folder = place if place.is_dir() else cached_folder(model)
    if folder is None:
        check_name(model, folders_of(recipe))
        return  # of the hub: looked at when it is fetched
    if (folder / "candidate.json").is_file():
        found = Candidate.load(folder)
        other = found.task != task and task is not None
        if other and isinstance(found.model, OnnxModel):
            check_start(recipe, found, labels)
        reason = f"it answers {found.task}, not {task}" if other else None
        if new_head(reason, folder.name, str(task or found.task), rules) is not None:
            labels_of_new(str(task), labels)
        elif found.labels:
            check_labels(renamed(found.labels, spec.labels), labels, rules.where)
        return
    described = check_folder(folder)
    weights = find_weights(folder, spec.trust == "pickle")
    if task is None:
        return
    reason = new_head(untrained(described, task, weights.shapes, folder), folder.name, task, rules)
    if reason is not None:
        labels_of_new(task, labels)
    elif find_task(task).labelled:
        check_labels(renamed(class_names(described), spec.labels), labels, rules.where)


def check_parts(recipe: Recipe) -> None:
    """Refuse a model of several graphs, of which no bundle can be made."""
    if recipe.fields.model is None:
        return
    place = at_hand(recipe.fields.model)
    described = (place / "candidate.json").is_file()
    found = Candidate.load(place).model if described else onnx_model_at(place)
    if isinstance(found, OnnxModel) and found.parts:
        raise recipe.source.error(
            "a run ends with a bundle, which holds one graph, and this model has "
            f"{', '.join(found.graphs)}; name one of them, or apply stages by their commands, as "
            "`edgecompress quantize` does",
            ("model",),
        )


def _is_onnx(path: Path) -> bool:
    return (path / "manifest.json").is_file() or onnx_model_at(path) is not None
