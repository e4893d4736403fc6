"""What is done with whole recipes: check one, make a bundle again, and what can stand in one."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecompress.api.arguments import Place, find_recipe, reporting
from edgecompress.api.checked import CheckedRecipe
from edgecompress.api.options import as_texts
from edgecompress.api.reproduced import Reproduced
from edgecompress.api.shown import Section, Shown
from edgecompress.engine.chains import find_stage
from edgecompress.engine.matrix import read_matrix
from edgecompress.engine.matrix.run import check_cells
from edgecompress.engine.preflight import plan
from edgecompress.engine.recipe import load_recipe, recipe_schema
from edgecompress.progress import Reporter
from edgecompress.stage import stage_class, stage_modules
from edgecompress.targets.fleet import fleet_schema
from edgecompress.values import Json
from edgecompress.yamlfile import Settings, YamlFile


def check(recipe: Place, *, settings: Settings = ()) -> CheckedRecipe:
    """Check a recipe whole: keys, order of stages, data files, targets; nothing is run.

    Of a recipe with a `matrix:` every cell is checked, and the first is shown.

    Parameters
    ----------
    recipe : path or str
        The YAML file, or the name of one that is installed ("quickstart").
    settings : mapping of str to object
        Laid over the recipe: ``{"data.root": "DIR", "stages.distil.epochs": 2}``.

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


def reproduce(
    bundle: Place,
    *,
    data_root: Place | None = None,
    teacher: Place | None = None,
    model: Place | None = None,
    settings: Settings = (),
    store: Place | None = None,
    output: Place | None = None,
    threads: int | None = None,
    yes: bool | Callable[[Sequence[str]], bool] = False,
    progress: bool | Reporter = True,
) -> Reproduced:
    """Make a bundle again by its own recipe in a clean store, and compare the two.

    Parameters
    ----------
    bundle : path
    data_root : path, optional
        Folder of the data's files; the working directory when left out.
    teacher, model : path or str, optional
        Where the teacher, and the model that the chains start from, lie now.
    settings : mapping of str to object
        Fields of the recorded recipe.
    store : path, optional
        A new folder that keeps what is made; a temporary one when left out.
    output : path, optional
        Keep the bundle that is made, in this directory.
    threads : int, optional
        How many threads PyTorch trains with; as many as then, where that is recorded.
    yes : bool or callable
        Whether to fetch the hub's models that the bundle names; a callable is given their names.
    progress : bool or Reporter
        Whether to show how far the work is; a `Reporter` is told.

    Raises
    ------
    EdgeCompressError
        When the bundle is damaged, or its inputs are not those that it was made from.
    """
    from edgecompress.engine import reproduce as engine
    from edgecompress.engine.same_inputs import Inputs

    inputs = Inputs(
        Path(data_root) if data_root else None,
        os.fspath(teacher) if teacher else None,
        os.fspath(model) if model else None,
        tuple(as_texts(settings)),
    )
    with reporting(progress) as reporter:
        return Reproduced(
            engine.reproduce(
                Path(bundle),
                inputs,
                store=Path(store) if store else None,
                output=Path(output) if output else None,
                threads=threads,
                reporter=reporter,
                fetch=yes if callable(yes) else lambda _names: bool(yes),
            )
        )


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
    """Give the JSON Schema of recipes, or of fleets (targets.yaml) with every kind of target."""
    return fleet_schema() if fleet else recipe_schema()
