"""``edgecompress stages``: what can stand in a recipe, and each stage's fields."""

from __future__ import annotations

import click

from edgecompress.cli._output import say


@click.command(name="stages")
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List all stages, or the fields of the stage NAME with their defaults."""
    import inspect

    from edgecompress.engine.chains import find_stage
    from edgecompress.stage import stage_class, stage_modules
    from edgecompress.yamlfile import YamlFile

    if name is None:
        for known in sorted(stage_modules()):
            text = (inspect.getdoc(stage_class(known)) or "").partition("\n")[0]
            say(f"{known:22} {text}")
        return
    found = find_stage(name, YamlFile({}, None, {}), ())
    say(inspect.getdoc(found) or name)
    for field, info in found.model_fields.items():
        default = (
            "required"
            if info.is_required()
            else f"default {info.get_default(call_default_factory=True)!r}"
        )
        say(f"\n  {field}  ({default})")
        say(f"      {' '.join((info.description or '').split())}")
