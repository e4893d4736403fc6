"""``edgecompress check``: what a recipe would do, before it does it."""

from __future__ import annotations

import click

from edgecompress.cli._options import SETTINGS, find_recipe


@click.command(name="check")
@click.argument("recipe")
@SETTINGS
def command(recipe: str, settings: tuple[str, ...]) -> None:
    """Check RECIPE whole: keys, order of stages, data files, targets; nothing is run."""
    from edgecompress.preflight import plan
    from edgecompress.recipe import load_recipe

    found = plan(load_recipe(find_recipe(recipe), settings))
    fields = found.recipe.fields
    click.echo(f"{fields.name}: {fields.task or 'no task'}, seed {fields.seed}")
    if fields.teacher:
        origin = fields.teacher.model or "a new one, trained from nothing"
        tuned = ", then fine-tuned" if fields.teacher.finetune is not None else ", ready"
        click.echo(f"teacher: {origin}{tuned}")
    if fields.model:
        click.echo(f"model: {fields.model}")
    for split, count in found.examples:
        click.echo(f"  {split}: {count} examples")
    if found.labels:
        click.echo(f"  {len(found.labels)} labels: {', '.join(found.labels)}")
    click.echo(f"{len(found.names)} candidates from {found.stage_runs} stage runs, in this order:")
    for name, chain in zip(found.names, found.recipe.chains, strict=True):
        click.echo(f"  {name}")
        click.echo(f"      {' → '.join(use.label for use in chain) or 'the model as it is'}")
    click.echo("references: teacher in PyTorch, its stock export (onnx-fp32), the same tuned")
    for one in found.targets:
        click.echo(f"target {one.name}: measures {', '.join(one.can)}")
        if one.cannot:
            click.echo(
                f"      cannot measure {', '.join(one.cannot)}: a budget on these stays undecided"
            )
    for limit in found.recipe.budget:
        bounds = {
            k: getattr(limit, k) for k in ("max", "min", "max_drop", "max_ratio", "min_ratio")
        }
        shown = ", ".join(f"{k} {v:g}" for k, v in bounds.items() if v is not None)
        click.echo(f"budget {limit.key}: {shown}")
    click.echo(f"minimize: {fields.minimize}")
