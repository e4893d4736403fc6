"""What would run, said before anything runs and without torch.

`plan` reads the recipe and all data files, so that hours of work never end at a typing mistake.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgecompress.errors import DataError
from edgecompress.observation import open_targets
from edgecompress.recipe import Recipe
from edgecompress.run import observers, read_splits
from edgecompress.targets import Target
from edgecompress.values import METRICS


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """What a target can measure, and what it cannot of all that targets may."""

    name: str
    can: tuple[str, ...]
    cannot: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A recipe's work: its data, its chains in order and its targets."""

    recipe: Recipe
    examples: tuple[tuple[str, int], ...]
    labels: tuple[str, ...]
    names: tuple[str, ...]
    stage_runs: int
    targets: tuple[TargetPlan, ...]


def plan(recipe: Recipe) -> Plan:
    """Check a recipe whole and say what it would do.

    Raises
    ------
    RecipeError, DataError
        At the first thing that would stop the run.
    """
    splits, test = read_splits(recipe)
    observers(recipe)
    for chain in recipe.chains:
        for use in chain:
            try:
                use.stage.check_inputs()
            except DataError as error:
                raise recipe.source.error(str(error), use.path) from None
    labels: tuple[str, ...] = ()
    if recipe.fields.task and splits.train:
        from edgecompress.tasks import task

        labels = task(recipe.fields.task).label_names(splits.train)
    prefixes = {chain[:end] for chain in recipe.chains for end in range(1, len(chain) + 1)}
    runs = {tuple((use.name, use.stage.model_dump_json()) for use in prefix) for prefix in prefixes}
    targets = tuple(_target_plan(one) for one in open_targets(recipe).values())
    counts = (
        ("train", len(splits.train)),
        ("validation", len(splits.validation)),
        ("test", len(test)),
    )
    return Plan(recipe, counts if recipe.data else (), labels, recipe.names, len(runs), targets)


def _target_plan(one: Target) -> TargetPlan:
    can = tuple(m for m, needs in METRICS.items() if needs is None or needs in one.metrics)
    return TargetPlan(one.name, can, tuple(m for m in METRICS if m not in can))
