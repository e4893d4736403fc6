"""``edgecompress check``: what a recipe would do, before it does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from edgecompress.cli._options import SETTINGS, find_recipe
from edgecompress.cli._output import say

if TYPE_CHECKING:
    from edgecompress.engine.preflight import Plan, TargetPlan
    from edgecompress.engine.recipe import Recipe


@click.command(name="check")
@click.argument("recipe")
@SETTINGS
def command(recipe: str, settings: tuple[str, ...]) -> None:
    """Check RECIPE whole: keys, order of stages, data files, targets; nothing is run.

    Of a recipe with a `matrix:` every cell is checked, and the first is shown.
    """
    from edgecompress.engine.matrix import read_matrix
    from edgecompress.engine.preflight import plan
    from edgecompress.engine.recipe import load_recipe

    file = find_recipe(recipe)
    matrix = read_matrix(file, settings)
    if matrix is None:
        _say_plan(plan(load_recipe(file, settings)))
        return
    from edgecompress.cli._matrix import say_matrix
    from edgecompress.engine.matrix.run import check_cells

    check_cells(matrix)
    say(f"{matrix.name}: a matrix")
    say_matrix(matrix)
    say(f"\nthe first cell, {matrix.cells[0].name}:")
    _say_plan(plan(matrix.cells[0].recipe))


def _say_plan(found: Plan) -> None:
    """Say what one recipe would do."""
    fields = found.recipe.fields
    say(f"{fields.name}: {fields.task or 'no task'}, seed {fields.seed}")
    if fields.teacher:
        origin = fields.teacher.model or "a new one, trained from nothing"
        tuned = ", then fine-tuned" if fields.teacher.finetune is not None else ", ready"
        say(f"teacher: {origin}{tuned}")
    if fields.model:
        say(f"model: {fields.model}")
    for split, count in found.examples:
        say(f"  {split}: {count} examples")
    for shared in found.overlaps:
        say(f"  {shared.words}")
    if found.labels:
        say(f"  {len(found.labels)} labels: {', '.join(found.labels)}")
    say(f"{len(found.names)} candidates from {found.stage_runs} stage runs, in this order:")
    for name, chain in zip(found.names, found.recipe.chains, strict=True):
        say(f"  {name}")
        say(f"      {' → '.join(use.label for use in chain) or 'the model as it is'}")
    say("references: teacher in PyTorch, its stock export (onnx-fp32), the same tuned")
    for one in found.targets:
        _say_target(one, found.recipe)
    for limit in found.recipe.budget:
        bounds = {
            k: getattr(limit, k) for k in ("max", "min", "max_drop", "max_ratio", "min_ratio")
        }
        shown = ", ".join(f"{k} {v:g}" for k, v in bounds.items() if v is not None)
        say(f"budget {limit.key}: {shown}")
    say(f"minimize: {fields.minimize}")


def _say_target(plan: TargetPlan, recipe: Recipe) -> None:
    """Say what a target measures, and which metrics it cannot; nothing is connected to."""
    from edgecompress.all_metrics import metric
    from edgecompress.targets import open_target
    from edgecompress.targets.spec import can_measure

    spec = recipe.fleet.find(plan.name)
    target = open_target(spec)
    where = f" ({spec.url})" if spec.url != spec.name else ""
    asked = f"; asked {target.samples} examples" if target.samples else ""
    say(f"target {plan.name}{where}: measures {', '.join(can_measure(target))}{asked}")
    lacking: dict[str, list[str]] = {}
    for name in plan.cannot:
        lacking.setdefault(str(metric(name).needs), []).append(name)
    for what, metrics in lacking.items():
        named = "" if metrics == [what] else f" ({', '.join(metrics)})"
        say(f"      cannot measure {what}{named}")
