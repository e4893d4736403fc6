"""The command line as a whole: quick help, light imports, every command documented."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from commands import in_process

from edgecompress.cli._commands import EXAMPLES
from edgecompress.cli.main import cli

COMMANDS = cli.list_commands(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name):
    done = CliRunner().invoke(cli, [name, "--help"])
    assert done.exit_code == 0
    assert "Usage:" in done.output


@pytest.mark.parametrize(
    "arguments", [["-m", "edgecompress", "--help"], ["-c", "import edgecompress"]]
)
def test_help_and_import_load_nothing_heavy(arguments):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    names = (line.rpartition("|")[2].strip() for line in done.stderr.splitlines())
    loaded = {name.partition(".")[0] for name in names}
    heavy = {"torch", "onnxruntime", "onnx", "transformers", "numpy", "pydantic", "rich", "yaml"}
    assert not loaded & heavy


def test_schema_is_json(tmp_path):
    import json

    done = CliRunner().invoke(cli, ["schema"])
    assert json.loads(done.output)["title"] == "edgecompress recipe"


def test_stages_lists_names_and_fields():
    listed = CliRunner().invoke(cli, ["stages"]).output
    assert "quantize.static" in listed
    fields = CliRunner().invoke(cli, ["stages", "quantize.static"]).output
    assert "calibration" in fields
    assert "default" in fields


def test_a_module_of_ours_that_is_missing_is_our_fault_and_not_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "edgecompress.api.recipes", None)
    done = in_process("stages")
    assert done.returncode == 1
    assert done.stderr.startswith("edgecompress: this is a fault of edgecompress")


PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")


def lines_of_the_page():
    for title, lines in cli.sections():
        yield f"## {title}"
        for name, said in lines:
            yield f"| `edgecompress {name}` | {said} |"
            below = cli.get_command(None, name)
            for _, more in below.sections() if isinstance(below, click.Group) else ():
                yield from (f"| `edgecompress {name} {one}` | {text} |" for one, text in more)


def test_the_page_of_commands_is_the_help():
    expected = list(lines_of_the_page())
    assert [line for line in PAGE.splitlines() if line in expected] == expected
    assert PAGE.count("| `edgecompress ") == sum(line.startswith("|") for line in expected)


@pytest.mark.parametrize("group", [(), ("bundle",), ("targets",)])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_help_has_whole_sentences_at_any_width(group, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    asked = in_process(*group, "--help")
    alone = in_process(*group)
    assert (asked.returncode, alone.returncode) == (0, 2)
    assert alone.stdout.partition("\n")[2] == asked.stdout.partition("\n")[2]
    assert alone.stderr == ""
    text = " ".join(asked.stdout.split())
    found = cli.get_command(None, group[0]) if group else cli
    for _, lines in found.sections():
        for name, said in lines:
            assert f"{name} {said}" in text
            assert said.endswith(".")
    assert "..." not in text.replace("[ARGS]...", "") and "\\b" not in text


def commands(group, path=()):
    for name in group.list_commands(None):
        found = group.get_command(None, name)
        if isinstance(found, click.Group):
            yield from commands(found, (*path, name))
        else:
            yield (*path, name), found


EVERY = [pytest.param(path, found, id=" ".join(path)) for path, found in commands(cli)]


@pytest.mark.parametrize(("path", "found"), EVERY)
def test_help_explains_arguments_and_its_examples_can_be_typed(path, found, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = in_process(*path, "--help").stdout
    flat = " ".join(text.split())
    for one in found.params:
        if isinstance(one, click.Argument):
            assert found.arguments[one.name].endswith(".")
            assert " ".join(found.arguments[one.name].split()) in flat
    if found.shared:
        assert (
            text.index("\nOptions:") < text.index("\nTask and data:") < text.index("--set-recipe")
        )
        assert text.index("--help") < text.index("\nTask and data:")
    examples = EXAMPLES.get(" ".join(path), ())
    for example in examples:
        assert f"\n  {example}\n" in text
        words = shlex.split(example.partition(" > ")[0])
        assert tuple(words[1 : 1 + len(path)]) == path
        known = {flag for one in found.params for flag in one.opts}
        assert {word for word in words if word.startswith("-")} <= known


def test_every_example_is_of_a_command_that_is_there():
    assert set(EXAMPLES) <= {" ".join(one.values[0]) for one in EVERY}
