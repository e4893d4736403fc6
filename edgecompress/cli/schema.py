"""``edgecompress schema``: the JSON Schema of recipes and fleets, for editors."""

from __future__ import annotations

import click


@click.command(name="schema")
@click.option("--fleet", is_flag=True, help="Of fleets (targets.yaml), with every kind of target.")
def command(fleet: bool) -> None:
    """Print the JSON Schema of recipes (stages included).

    Save it and name it in an editor's YAML settings to get completion and checks while typing.
    """
    import json

    from edgecompress.api.recipes import schema

    click.echo(json.dumps(schema(fleet=fleet), indent=1, ensure_ascii=False))
