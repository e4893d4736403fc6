"""docs/training.md: its recipe is read, its commands are parsed, its table names every field."""

import re
import shlex

import click
import pytest
from pages import blocks, page, read_block

from edgecompress.cli.main import cli
from edgecompress.stages.finetune import Finetune

PAGE = page("training.md")


@pytest.mark.parametrize("block", blocks(PAGE, "yaml"))
def test_every_recipe_is_read(block, tmp_path):
    assert read_block(block, tmp_path).chains


@pytest.mark.parametrize(
    "line", [line for block in blocks(PAGE, "sh") for line in block.splitlines()]
)
def test_every_command_is_understood(line, tmp_path):
    name, *words = shlex.split(line.partition("edgecompress ")[2])
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    recipe = tmp_path / "RECIPE"
    recipe.touch()
    words = [str(recipe) if word == "RECIPE" else word for word in words]
    found.make_context(name, words, parent=click.Context(cli))


def test_every_field_is_there():
    fields, _, _ = PAGE.partition("\n## ")
    named = set(re.findall(r"^\| `(\w+)` \|", fields, re.MULTILINE))
    assert set(Finetune.model_fields) == named
