"""Pages on targets and starting: their recipes and fleets are read, their commands parsed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from edgecompress.cli.main import cli
from edgecompress.engine.recipe import load_recipe
from edgecompress.targets.emulated import CPUS
from edgecompress.targets.fleet import load_fleet
from edgecompress.targets.kinds.ssh import SshSpec

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "targets.md").read_text(encoding="utf-8")
START = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
PORTABLE = (ROOT / "docs" / "portability.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = PAGE) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands() -> list[list[str]]:
    found = []
    for block in blocks("sh") + blocks("sh", START) + blocks("sh", PORTABLE):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("edgecompress "):
                found.append(shlex.split(line, comments=True)[1:])
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_is_understood(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options and their values are parsed; nothing is run."""
    monkeypatch.chdir(tmp_path)
    for name in ("texts.txt", "inputs.npz"):
        Path(name).touch()
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, words
        command, words = found, words[1:]
    command.make_context(command.name, list(words), parent=context)


def test_the_fleet_of_the_page_is_read(tmp_path: Path) -> None:
    whole = next(block for block in blocks("yaml") if "idle_timeout_s" in block)
    (tmp_path / "targets.yaml").write_text(whole)
    fleet = load_fleet(tmp_path / "targets.yaml")
    assert set(fleet.targets) == {"pi4", "pi5", "a72", "old"}
    described = set(yaml.safe_load(whole)["pi5"]) | {"name"}
    assert described == set(SshSpec.model_fields), "a setting of the fleet is not documented"


def test_the_recipe_of_the_page_is_read(tmp_path: Path) -> None:
    fleet = next(block for block in blocks("yaml") if "idle_timeout_s" in block)
    part = next(block for block in blocks("yaml") if block.startswith("targets:"))
    (tmp_path / "targets.yaml").write_text(fleet)
    recipe = "name: x\ntask: text-classification\ndata: {format: cldr}\n"
    recipe += "teacher: {new: {}, finetune: {}}\n"
    (tmp_path / "recipe.yaml").write_text(f"{recipe}stages: [export]\n{part}")
    loaded = load_recipe(tmp_path / "recipe.yaml", ())
    assert [limit.key for limit in loaded.budget] == ["accuracy@pi5", "accuracy", "latency_p50@pi5"]
    assert loaded.fleet.find("old").samples == 100


def test_the_recipes_of_the_other_pages_are_read(tmp_path: Path) -> None:
    recipe = "name: x\ntask: text-classification\ndata: {format: cldr}\n"
    recipe += "teacher: {new: {}, finetune: {}}\n"
    (tmp_path / "start.yaml").write_text(blocks("yaml", START)[0])
    assert load_recipe(tmp_path / "start.yaml", ()).fields.minimize == "size"
    whole = f"{recipe}{''.join(blocks('yaml', PORTABLE))}"
    (tmp_path / "portable.yaml").write_text(whole)
    limits = load_recipe(tmp_path / "portable.yaml", ()).budget
    assert [limit.key for limit in limits] == [
        "accuracy",
        "host_difference@emulated://x86-avx2",
    ]


def test_every_emulated_processor_is_on_the_page() -> None:
    for cpu in CPUS.values():
        assert f"| `{cpu.url}` |" in PAGE
