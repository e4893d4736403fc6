"""docs/sparsity.md: its recipes are read, its commands parsed, its tables name every field."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import pytest
from pages import blocks, page, read_block

from edgecompress.cli.main import cli
from edgecompress.stages.prune.magnitude import Magnitude
from edgecompress.training.gradual_fields import Gradual

PAGE = page("sparsity.md")


@pytest.mark.parametrize("block", blocks(PAGE, "yaml"))
def test_every_recipe_is_read(block: str, tmp_path: Path) -> None:
    assert read_block(block, tmp_path).chains


@pytest.mark.parametrize(
    "line", [line for block in blocks(PAGE, "sh") for line in block.splitlines()]
)
def test_every_command_is_understood(line: str, tmp_path: Path) -> None:
    name, *words = shlex.split(line, comments=True)[1:]
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    recipe = tmp_path / "RECIPE"
    recipe.touch()
    words = [str(recipe) if word == "RECIPE" else word for word in words]
    found.make_context(name, words, parent=click.Context(cli))


def test_every_field_is_there() -> None:
    one, two = PAGE.split("\n## gradual\n")
    for field in Magnitude.model_fields:
        assert f"| `{field}` |" in one
    for name, info in Gradual.model_fields.items():
        assert f"`{info.alias or name}`" in two
