"""What would run, said before anything runs and without torch.

`plan` reads the recipe and all data files, so that hours of work never end at a typing mistake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgecompress.all_metrics import bounded
from edgecompress.data.overlap import Overlap, Quoted
from edgecompress.engine.given_models import check_models, impossible, label_names
from edgecompress.engine.observation import open_targets
from edgecompress.engine.recipe import Recipe, TeacherSpec
from edgecompress.engine.run import observers
from edgecompress.engine.splits import read_splits
from edgecompress.stage import Stage
from edgecompress.targets import Target
from edgecompress.values import json_digest


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """What a target can measure, and what it cannot of all that targets may."""

    name: str
    can: tuple[str, ...]
    cannot: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunPlan:
    """A recipe's work: its data, its chains in order and its targets."""

    recipe: Recipe
    examples: tuple[tuple[str, int], ...]
    overlaps: tuple[Overlap | Quoted, ...]
    labels: tuple[str, ...]
    names: tuple[str, ...]
    stage_runs: int
    targets: tuple[TargetPlan, ...]
    impossible: Mapping[str, str] = field(default_factory=dict)
    """The chains that are only shown, by name, each with the reason."""


def plan(recipe: Recipe) -> RunPlan:
    """Check a recipe whole and say what it would do.

    Raises
    ------
    RecipeError, DataError
        At the first thing that would stop the run.
    """
    splits, test = read_splits(recipe)
    observers(recipe)
    labels = label_names(recipe.fields.task, splits.train)
    check_models(recipe, labels)
    left_out = impossible(recipe)
    chains = [c for c, name in zip(recipe.chains, recipe.names, strict=True)
              if name not in left_out]  # fmt: skip
    prefixes = {chain[:end] for chain in chains for end in range(1, len(chain) + 1)}
    runs = {tuple((use.name, use.stage.model_dump_json()) for use in prefix) for prefix in prefixes}
    targets = tuple(_target_plan(one) for one in open_targets(recipe).values())
    counts = (
        ("train", len(splits.train)),
        ("validation", len(splits.validation)),
        ("test", len(test)),
    )
    examples = counts if recipe.data else ()
    shared: tuple[Overlap | Quoted, ...] = (*splits.overlaps, *splits.quoted)
    return RunPlan(recipe, examples, shared, labels, recipe.names, len(runs), targets, left_out)


def _target_plan(one: Target) -> TargetPlan:
    known = bounded()
    can = tuple(m.name for m in known if m.needs is None or m.needs in one.metrics)
    return TargetPlan(one.name, can, tuple(m.name for m in known if m.name not in can))


def shared_work(recipes: Sequence[Recipe]) -> tuple[int, int]:
    """Count the stages of all chains of several recipes, and how many of them the store makes.

    Equal beginnings of chains are made once: those of one recipe, and those of recipes that start
    from the same model with the same teacher, data and seed. Fine-tuning the teacher counts, too.

    Returns
    -------
    asked, made
        Stage uses, and those that are not the same as another. An estimate: a stage that reads
        no data or no teacher is shared more widely still.
    """
    asked = 0
    made: set[tuple[str, ...]] = set()
    for recipe in recipes:
        fields = recipe.fields
        teacher = fields.teacher.model_dump(mode="json") if fields.teacher else {}
        teacher.pop("finetune", None)
        given = {"task": fields.task, "seed": fields.seed, "threads": fields.threads}
        data = recipe.data.model_dump(mode="json") if recipe.data else None
        ground = json_digest({**given, "data": data})
        base = json_digest([ground, TeacherSpec(model=fields.model).model_dump(exclude={"finetune"})
                            if fields.model else teacher])  # fmt: skip
        origin = json_digest([ground, teacher])
        tuned = recipe.teacher_finetune
        first = () if tuned is None else (f"finetune {_json(tuned.stage)}",)
        asked += len(first)
        made |= {(origin, *first)} if first else set()
        start = (base,) if fields.model else (origin, *first)
        for chain in recipe.chains:
            names = [f"{use.name} {_json(use.stage)}" for use in chain]
            asked += len(names)
            for end in range(1, len(names) + 1):
                teaches = any(use.stage.needs_teacher for use in chain[:end])
                taught = (origin, *first) if teaches else ()
                made.add((*start, *names[:end], *taught))
    return asked, len(made)


def _json(stage: Stage) -> str:
    return stage.model_dump_json()
