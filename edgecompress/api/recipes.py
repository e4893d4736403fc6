"""What is asked of recipes without running one: whether it is sound, and what can stand in one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass

from edgecompress.api.arguments import Place, find_recipe
from edgecompress.api.checked import CheckedRecipe
from edgecompress.api.shown import Section, Shown
from edgecompress.engine.chains import find_stage
from edgecompress.engine.matrix import read_matrix
from edgecompress.engine.matrix.run import check_cells
from edgecompress.engine.preflight import plan
from edgecompress.engine.recipe import load_recipe, recipe_schema
from edgecompress.stage import stage_class, stage_modules
from edgecompress.targets.fleet import fleet_schema
from edgecompress.values import Json
from edgecompress.yamlfile import Settings, YamlFile


def check(recipe: Place, *, settings: Settings = ()) -> CheckedRecipe:
    """Check `recipe` whole: keys, order of stages, data files, targets; nothing is run.

    Of a recipe with a `matrix:` every cell is checked, and the first is shown.

    Parameters
    ----------
    recipe : path or str
        The YAML file, or the name of one that is installed ("quickstart").
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
        Of a stage.

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
