"""What checking a recipe gives: what it would do, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecompress.api.shown import Section, Shown
from edgecompress.engine.preflight import Plan, TargetPlan

if TYPE_CHECKING:
    from edgecompress.engine.matrix import Matrix
    from edgecompress.engine.recipe import Recipe


@dataclass(frozen=True, slots=True, repr=False)
class CheckedRecipe(Shown):
    """A recipe that is sound, and what it would do.

    Attributes
    ----------
    plan : Plan
        Its data, chains and targets; of a matrix, those of the first cell.
    matrix : Matrix or None
        All cells, where the recipe has a `matrix:`.
    """

    plan: Plan
    matrix: Matrix | None = None

    def sections(self) -> Iterator[Section]:
        """Say it."""
        lines = []
        if self.matrix is not None:
            lines = [f"{self.matrix.name}: a matrix", *_matrix(self.matrix), ""]
            lines.append(f"the first cell, {self.matrix.cells[0].name}:")
        yield Section("", notes=(*lines, *_plan(self.plan)))


def _plan(found: Plan) -> Iterator[str]:
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
    for shared in found.overlaps:
        yield (f"  {shared.words}")
    if found.labels:
        yield (f"  {len(found.labels)} labels: {', '.join(found.labels)}")
    yield (f"{len(found.names)} candidates from {found.stage_runs} stage runs, in this order:")
    for name, chain in zip(found.names, found.recipe.chains, strict=True):
        yield (f"  {name}")
        yield (f"      {' → '.join(use.label for use in chain) or 'the model as it is'}")
    yield ("references: teacher in PyTorch, its stock export (onnx-fp32), the same tuned")
    for one in found.targets:
        yield from _target(one, found.recipe)
    for limit in found.recipe.budget:
        bounds = {
            k: getattr(limit, k) for k in ("max", "min", "max_drop", "max_ratio", "min_ratio")
        }
        shown = ", ".join(f"{k} {v:g}" for k, v in bounds.items() if v is not None)
        yield (f"budget {limit.key}: {shown}")
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
