"""docs/training.md: its recipe is read, its commands are parsed, its table names every field."""

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from edgecompress.cli.main import cli
from edgecompress.recipe import build_recipe
from edgecompress.stages.finetune import Finetune
from edgecompress.yamlfile import YamlFile

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("block", blocks("yaml"))
def test_every_recipe_is_read(block, tmp_path):
    (tmp_path / "train.txt").write_text("Kano B-LOC\n\n")
    data = {"format": "conll", "root": str(tmp_path), "train": ["train.txt"]}
    document = {"name": "page", "task": "token-classification", "teacher": {"model": "somewhere"}}
    document |= {"data": data, **yaml.safe_load(block)}
    assert build_recipe(YamlFile(document, None, {}), complete=False).chains


@pytest.mark.parametrize("line", [line for block in blocks("sh") for line in block.splitlines()])
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
