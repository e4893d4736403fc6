"""docs/sensitivity.md: its recipes are read, its commands parsed, its tables name every field."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from pages import blocks, page, read_block

from edgecompress.cli.main import cli
from edgecompress.stages.quantize.auto import Auto

PAGE = page("sensitivity.md")


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
    for file in ("inputs.npz", "INT8"):
        (tmp_path / file).touch()
    words = [str(tmp_path / word) if word in ("inputs.npz", "INT8") else word for word in words]
    assert found.make_context(name, words).params


def test_every_field_of_the_stage_is_named() -> None:
    fields = set(Auto.model_fields) | {"preset"}
    assert fields - set(re.findall(r"`(\w+)`", PAGE)) == set()


def test_the_defaults_are_those_that_the_page_states() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\w.]+) \|", PAGE, re.MULTILINE))
    for name in ("max_drop", "most_fp32", "seconds", "ranking_samples", "embedding_block"):
        assert float(rows[name]) == Auto.model_fields[name].default
