"""What is asked of recipes without running one: whether it is sound, and what can stand in one."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecompress.api.arguments import StrPath, find_recipe
from edgecompress.api.shown import Section, Shown
from edgecompress.engine.chains import find_stage
from edgecompress.engine.matrix import read_matrix
from edgecompress.engine.matrix.run import check_cells
from edgecompress.engine.preflight import RunPlan, TargetPlan, plan
from edgecompress.engine.recipe import load_recipe
from edgecompress.engine.recipe_schema import recipe_schema
from edgecompress.stage import stage_class, stage_modules
from edgecompress.targets.fleet import fleet_schema
from edgecompress.values import Json
from edgecompress.yamlfile import Settings, YamlFile

if TYPE_CHECKING:
    from edgecompress.engine.matrix import Matrix
    from edgecompress.engine.recipe import Recipe


@dataclass(frozen=True, slots=True, repr=False)
class CheckedRecipe(Shown):
    """A recipe that is sound, and what it would do.

    Attributes
    ----------
    plan : RunPlan
        Its data, chains and targets; of a matrix, those of the first cell.
    matrix : Matrix or None
        All cells, where the recipe has a `matrix:`.
    """

    plan: RunPlan
    matrix: Matrix | None = None

    def sections(self) -> Iterator[Section]:
        """Say it."""
        lines = []
        if self.matrix is not None:
            lines = [f"{self.matrix.name}: a matrix", *_matrix(self.matrix), ""]
            lines.append(f"the first cell, {self.matrix.cells[0].name}:")
        yield Section("", notes=(*lines, *_plan(self.plan)))


def _plan(found: RunPlan) -> Iterator[str]:
    """Say what one recipe would do."""
    fields = found.recipe.fields
    yield (f"{fields.name}: {fields.task or 'no task'}, seed {fields.seed}")
    if fields.teacher:
        origin = fields.teacher.model or "a new one, trained from nothing"
        tuned = ", then fine-tuned" if fields.teacher.finetune is not None else ", ready"
        yield (f"teacher: {origin}{tuned}")
    if fields.model:
        yield (f"model: {fields.model}")
    for split, count in found.examples:
        yield (f"  {split}: {count} examples")
    for what, said in found.recipe.data.facts().items() if found.recipe.data else ():
        yield (f"  {what}: {said}")
    for shared in found.overlaps:
        yield (f"  {shared.words}")
    if found.labels:
        yield (f"  {len(found.labels)} labels: {', '.join(found.labels)}")
    yield (f"{len(found.names)} candidates from {found.stage_runs} stage runs, in this order:")
    for name, chain in zip(found.names, found.recipe.chains, strict=True):
        yield (f"  {name}")
        yield (f"      {' → '.join(use.label for use in chain) or 'the model as it is'}")
        if name in found.impossible:
            yield (f"      cannot be: {found.impossible[name]}")
    yield ("references: teacher in PyTorch, its fp32 export (onnx-fp32), the same tuned")
    for one in found.targets:
        yield from _target(one, found.recipe)
    for limit in found.recipe.budget:
        bounds = {
            k: getattr(limit, k) for k in ("max", "min", "max_drop", "max_ratio", "min_ratio")
        }
        shown = ", ".join(f"{k} {v:g}" for k, v in bounds.items() if v is not None)
        each = f", for each {limit.each}" if limit.each else ""
        yield (f"budget {limit.name}: {shown}{each}")
    yield (f"minimize: {fields.minimize}")


def _target(plan: TargetPlan, recipe: Recipe) -> Iterator[str]:
    """Say what a target measures, and which metrics it cannot; nothing is connected to."""
    from edgecompress.all_metrics import metric
    from edgecompress.targets import open_target
    from edgecompress.targets.spec import can_measure

    spec = recipe.fleet.find(plan.name)
    target = open_target(spec)
    where = f" ({spec.url})" if spec.url != spec.name else ""
    asked = f"; asked {target.samples} examples" if target.samples else ""
    yield (f"target {plan.name}{where}: measures {', '.join(can_measure(target))}{asked}")
    lacking: dict[str, list[str]] = {}
    for name in plan.cannot:
        lacking.setdefault(str(metric(name).needs), []).append(name)
    for what, metrics in lacking.items():
        named = "" if metrics == [what] else f" ({', '.join(metrics)})"
        yield (f"      cannot measure {what}{named}")


def _matrix(matrix: Matrix) -> Iterator[str]:
    """Say what a matrix would do: its axes, its cells, and how much of the work they share."""
    from edgecompress.engine.given_models import impossible
    from edgecompress.engine.preflight import shared_work

    for axis, values in matrix.axes.items():
        yield (f"axis {axis}: {', '.join(map(str, values))}")
    for name, value in matrix.constants.items():
        yield (f"constant {name}: {value}")
    recipes = [cell.recipe for cell in matrix.cells]
    chains = {len(recipe.chains) for recipe in recipes}
    each = f"{min(chains)}" if len(chains) == 1 else f"{min(chains)} to {max(chains)}"
    total = sum(len(recipe.chains) for recipe in recipes)
    yield (f"{len(recipes)} cells of {each} candidates, {total} in all")
    asked, made = shared_work(recipes)
    yield (f"{asked:,} stage uses, of which {made:,} are run: the others are shared")
    for cell in matrix.cells:
        for why, count in Counter(impossible(cell.recipe).values()).items():
            yield (f"{cell.name}: {count} candidates cannot be: {why}")


def check(recipe: StrPath, *, settings: Settings = ()) -> CheckedRecipe:
    """Check `recipe` whole: keys, order of stages, data files, targets; nothing is run.

    Where a recipe has a `matrix:`, every cell is checked and the first one is shown.

    Parameters
    ----------
    recipe : path or str
        A YAML file, or the name of a recipe that is installed, such as "quickstart".
    settings : mapping of str to object, optional
        Set any field of the recipe, such as data.root=DIR or stages.distil.epochs=2.

    Raises
    ------
    RecipeError, DataError
        At the first thing that would stop the run.
    """
    file = find_recipe(recipe)
    matrix = read_matrix(file, settings)
    if matrix is None:
        return CheckedRecipe(plan(load_recipe(file, settings)))
    check_cells(matrix)
    return CheckedRecipe(plan(matrix.cells[0].recipe), matrix)


@dataclass(frozen=True, slots=True, repr=False)
class StageList(Shown):
    """The names of all stages, and what each does."""

    stages: tuple[tuple[str, str], ...]

    def sections(self) -> Iterator[Section]:
        """Lay them out."""
        yield Section("", lines=self.stages)


@dataclass(frozen=True, slots=True, repr=False)
class StageFields(Shown):
    """A stage's fields: the name, the default and what it means, of each."""

    name: str
    text: str
    fields: tuple[tuple[str, str, str], ...]

    def sections(self) -> Iterator[Section]:
        """Lay them out."""
        yield Section("", notes=(self.text,))
        for field, default, text in self.fields:
            yield Section("", notes=(f"  {field}  ({default})", f"      {text}"))


def list_stages(name: str | None = None) -> StageList | StageFields:
    """List all stages, or the fields of the stage `name` with their defaults.

    Parameters
    ----------
    name : str, optional
        A stage, such as quantize.static.

    Raises
    ------
    RecipeError
        When there is no such stage.
    """
    if name is None:
        known = sorted(stage_modules())
        firsts = ((inspect.getdoc(stage_class(one)) or "").partition("\n")[0] for one in known)
        return StageList(tuple(zip(known, firsts, strict=True)))
    found = find_stage(name, YamlFile({}, None, {}), ())
    fields = tuple(
        (
            field,
            "required"
            if info.is_required()
            else f"default {info.get_default(call_default_factory=True)!r}",
            " ".join((info.description or "").split()),
        )
        for field, info in found.model_fields.items()
    )
    return StageFields(name, inspect.getdoc(found) or name, fields)


def schema(*, fleet: bool = False) -> Json:
    """Give the JSON Schema of recipes (stages included).

    Saved and named in an editor's YAML settings it gives completion and checks while typing.

    Parameters
    ----------
    fleet : bool
        Of fleets (targets.yaml), with every kind of target.
    """
    return fleet_schema() if fleet else recipe_schema()
