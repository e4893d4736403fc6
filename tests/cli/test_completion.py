"""What a shell is offered, asked as bash, zsh and fish ask: by a process, without torch."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "onnxruntime", "onnx", "datasets")
PROGRAM = (
    "import sys; sys.argv = ['edgecompress']; "
    f"sys.modules.update(dict.fromkeys({HEAVY!r})); "  # the import of any of these fails
    "from edgecompress.cli.main import main; main()"
)


def offered(line: str, folder: Path, shell: str = "bash") -> list[list[str]]:
    """Complete the last word of a line; give kind and value of each offer."""
    words = shlex.split(line) + ([""] if line.endswith(" ") else [])
    place = words[-1] if shell == "fish" else str(len(words) - 1)
    environment = {
        **os.environ,
        "_EDGECOMPRESS_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": place,
        "XDG_CONFIG_HOME": str(folder),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=True,
    )
    assert done.stderr == ""
    return [one.split(",", 1) for one in done.stdout.split("\n") if one]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with a recipe, a fleet and other things."""
    (tmp_path / "mine.yaml").write_text("name: mine\n", encoding="utf-8")
    (tmp_path / "targets.yaml").write_text("kitchen: ssh://pi@kitchen.invalid\n", encoding="utf-8")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "other.yml").write_text("name: other\n", encoding="utf-8")
    (tmp_path / "model.onnx").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("line", "among", "not_among"),
    [
        ("edgecompress qu", ["quantize"], ["profile"]),
        ("edgecompress ", ["compress", "run", "bundle"], []),
        ("edgecompress bundle ", ["verify", "pack"], ["run"]),
        ("edgecompress quantize m.onnx --sch", ["--scheme"], []),
        ("edgecompress quantize m.onnx --scheme ", ["dynamic", "half"], ["quantize.half"]),
        ("edgecompress prune m --method ", ["layers", "structured"], []),
        ("edgecompress stages quantize.s", ["quantize.static", "quantize.smooth"], ["export"]),
        ("edgecompress evaluate m --task t", ["token-classification"], ["masked-lm"]),
        ("edgecompress evaluate m --format ", ["csv", "conll"], []),
        ("edgecompress run ", ["mine.yaml", "quickstart"], ["targets.yaml", "model.onnx"]),
        ("edgecompress run more/", ["more/other.yml"], ["quickstart"]),
        ("edgecompress quantize m --recipe qui", ["quickstart"], ["mine.yaml"]),
        ("edgecompress profile m --target ", ["kitchen", "local", "emulated://cortex-a72"], []),
        ("edgecompress targets check kitchen ", ["local"], ["kitchen"]),
        ("edgecompress image b --engine po", ["podman"], ["docker"]),
    ],
)
def test_names_are_completed(
    folder: Path, line: str, among: list[str], not_among: list[str]
) -> None:
    found = offered(line, folder)
    values = [value for _, value in found]
    assert {kind for kind, _ in found} == {"plain"}
    assert set(among) <= set(values)
    assert not set(not_among) & set(values)


@pytest.mark.parametrize(
    "line",
    ["edgecompress quantize ", "edgecompress profile m", "edgecompress run mor",
     "edgecompress compress m --data ", "edgecompress distil m --teacher "],
)  # fmt: skip
def test_files_are_left_to_the_shell(folder: Path, line: str) -> None:
    assert [kind for kind, _ in offered(line, folder)] == ["file"]


def test_a_broken_fleet_says_nothing_in_the_middle_of_a_line(folder: Path) -> None:
    (folder / "targets.yaml").write_text("a: [", encoding="utf-8")
    assert offered("edgecompress targets check ", folder) == []


def test_other_shells_ask_otherwise_and_get_the_sentences(folder: Path) -> None:
    fish = offered("edgecompress prof", folder, "fish")
    assert fish[0][0] == "plain"
    assert fish[0][1].startswith("profile\t")
    assert ["_"] not in fish
    zsh = [" ".join(one) for one in offered("edgecompress prof", folder, "zsh")]
    assert zsh[:2] == ["plain", "profile"]
    assert zsh[2].startswith("See how large")


def test_bash_completes_with_what_the_page_says(folder: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    program = bin_folder / "edgecompress"
    program.write_text(f"#!{sys.executable}\n{PROGRAM}\n", encoding="utf-8")
    program.chmod(0o755)
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")
    line = next(one for one in page.splitlines() if "bash_source" in one).partition("#")[0]
    script = (
        f"{line}\nCOMP_WORDS=(edgecompress quantize m.onnx --scheme ha); COMP_CWORD=4\n"
        '_edgecompress_completion edgecompress 2>/dev/null; echo "${COMPREPLY[@]}"\n'
    )
    path = f"{bin_folder}:{os.environ['PATH']}"
    done = subprocess.run(
        [bash, "--norc", "-c", script],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PATH": path},
        check=True,
    )
    assert done.stdout.strip() == "half"
