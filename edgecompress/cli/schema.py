"""``edgecompress schema``: the JSON Schema of recipes, for editors."""

from __future__ import annotations

import click


@click.command(name="schema")
def command() -> None:
    """Print the JSON Schema of recipes (stages included).

    Save it and name it in an editor's YAML settings to get completion and checks while typing.
    """
    import json

    from edgecompress.recipe import recipe_schema

    click.echo(json.dumps(recipe_schema(), indent=1, ensure_ascii=False))
