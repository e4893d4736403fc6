"""The README is short, what it shows is there, and links of all pages lead somewhere."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest

from edgecompress.cli.main import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PICTURES = [ROOT / "docs" / "pictures" / name for name in ("report.png", "terminal.svg")]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "docker" / "README.md",
    ROOT / "calibration" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
WORDS = 700


def prose(page: Path) -> str:
    """Give a page without its code, in which brackets are no links."""
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    return re.sub(r"`[^`\n]*`", lambda found: "`" + "x" * (len(found[0]) - 2) + "`", text)


def anchors(page: Path) -> set[str]:
    """Give the anchors that a page's headings have where it is shown."""
    text = re.sub(
        r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", shown).strip().replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return found


def broken(page: Path) -> Iterator[str]:
    """Give the links of a page that lead to no file, folder or heading of this repository."""
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            yield f"{link}: no such file"
        elif anchor and anchor not in anchors(target):
            yield f"{link}: no such heading"


def commands() -> list[str]:
    """Give every command of the README's table and blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    spans = re.findall(r"`([^`\n]+)`", README)
    return [line for line in (*lines, *spans) if line.startswith("edgecompress ")]


def test_it_is_short() -> None:
    assert len(README.split()) <= WORDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert [*broken(page)] == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    other, page = tmp_path / "other.md", tmp_path / "page.md"
    other.write_text("# One\n## What `x` is\n## One\n```\n# no heading\n```\n")
    page.write_text(
        "[a](other.md#one) [b](other.md#what-x-is) [c](other.md#one-1) `d[0](e)` [f](gone.md)\n"
        "[g](other.md#no-heading) [h](https://example.org/x#y) [i](#two)\n"
    )
    assert [*broken(page)] == [
        "gone.md: no such file",
        "other.md#no-heading: no such heading",
        "#two: no such heading",
    ]


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {name for name in pages if f"]({name})" not in index} == set()


@pytest.mark.parametrize("line", commands())
def test_its_commands_are_understood(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options and their values are parsed, with the files that the line names; nothing is run."""
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line, comments=True)[1:]
    for word in words:
        if re.fullmatch(r"[\w./]+\.(csv|txt|onnx|yaml)", word):
            Path(word).touch()
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, words
        command, words = found, words[1:]
    command.make_context(command.name, list(words), parent=context)


def test_the_table_shows_recipes_that_are_there() -> None:
    assert len(commands()) > 5
    table = README.partition("headline: begin -->")[2].partition("<!-- headline: end")[0]
    rows = [line for line in table.strip().splitlines() if line.startswith("|[")]
    assert rows
    for row in rows:
        name = re.match(r"\|\[([\w-]+)\]\(models/\1\.yaml\): ", row)
        assert name and (ROOT / "models" / f"{name[1]}.yaml").is_file(), row


def test_the_pictures_are_small_and_load_nothing() -> None:
    assert sum(picture.stat().st_size for picture in PICTURES) < 300_000
    drawn = PICTURES[1].read_text(encoding="utf-8")
    ElementTree.fromstring(drawn)
    assert "url(" not in drawn.replace("url(#", "")
    assert all(f"docs/pictures/{picture.name}" in README for picture in PICTURES)


def test_a_terminal_is_drawn_of_what_a_command_prints(tmp_path: Path) -> None:
    make = runpy.run_path(str(ROOT / "docs" / "pictures" / "make.py"))
    picture = tmp_path / "terminal.svg"
    make["picture_of_terminal"]([["edgecompress", "--version"]], picture)
    told = "".join(ElementTree.fromstring(picture.read_text(encoding="utf-8")).itertext())
    plain = " ".join(told.split())
    assert "$ edgecompress --version" in plain and "version" in plain.rpartition("--version")[2]
    with pytest.raises(SystemExit, match=r"no picture: .* gone\.yaml ended with"):
        make["picture_of_terminal"]([["edgecompress", "check", "gone.yaml"]], tmp_path / "no.svg")
    assert not (tmp_path / "no.svg").exists()


def test_a_page_is_drawn_by_a_browser_or_said_to_need_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = runpy.run_path(str(ROOT / "docs" / "pictures" / "make.py"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)
    with pytest.raises(SystemExit, match="needs chromium: apt-get install chromium"):
        make["picture_of_page"](tmp_path / "page.html", tmp_path / "page.png")
