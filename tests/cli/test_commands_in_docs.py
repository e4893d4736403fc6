"""Every command line that the README and docs/ show has a command and options that are there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edgecompress.cli.main import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "docker" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def shown(page: Path) -> Iterator[str]:
    """Give the commands of a page's shell blocks, and those set as code in its text."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            yield from re.findall(r"(?:^|[\s|;&(])(edgecompress [^|;&)]+)", line)
    yield from re.findall(r"(?<!`)`(edgecompress [^`]+)`", re.sub(r"\n *", " ", text))


def faults(line: str) -> Iterator[str]:
    """Say what of a command line does not exist."""
    try:
        words = shlex.split(line, comments=True)[1:]
    except ValueError:  # the quotation ends in another line
        words = line.partition("#")[0].split()[1:]
    group: click.Command = cli
    while isinstance(group, click.Group):
        if not words or words[0].startswith("-"):
            return
        name, *words = words
        found = group.get_command(click.Context(group), name)
        if found is None:
            if name.islower():  # else a word that stands for one: `edgecompress COMMAND`
                yield f"no command {name!r}"
            return
        group = found
    known = {flag for one in group.params for flag in (*one.opts, *one.secondary_opts)}
    for word in words:
        flag = word.partition("=")[0]
        if re.fullmatch(r"-[a-z]|--[a-z][a-z-]*", flag) and flag not in {*known, "--help", "-h"}:
            yield f"no option {flag}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    wrong = [f"{line!r}: {fault}" for line in shown(page) for fault in faults(line)]
    assert not wrong


def test_the_pages_show_commands_and_a_wrong_one_is_found() -> None:
    assert sum(len([*shown(page)]) for page in PAGES) > 100
    assert [*faults("edgecompress quantise x")] == ["no command 'quantise'"]
    assert [*faults("edgecompress bundle verify x --keys y")] == ["no option --keys"]
