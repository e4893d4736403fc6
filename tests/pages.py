"""Pages of docs/ for the tests that hold them: their code blocks, and the recipes in them."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from edgecompress.engine.recipe import Recipe, build_recipe
from edgecompress.yamlfile import YamlFile


def page(name: str) -> str:
    """Read a page of docs/."""
    return (Path(__file__).parents[1] / "docs" / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Give the code blocks of a page that are in `language`."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def read_block(block: str, folder: Path, *, complete: bool = False) -> Recipe:
    """Read a block as a recipe; what it does not say of task, teacher and data is made up."""
    (folder / "train.txt").write_text("Kano B-LOC\n\n")
    data = {"format": "conll", "root": str(folder), "train": ["train.txt"]}
    document = {"name": "page", "task": "token-classification", "teacher": {"model": "somewhere"}}
    document |= {"data": data, **yaml.safe_load(block)}
    return build_recipe(YamlFile(document, None, {}), complete=complete)
