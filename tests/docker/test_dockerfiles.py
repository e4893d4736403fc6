"""The Dockerfiles: clean by hadolint, and of sources that exist and reach the builder."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from edgecompress.images.context import PLATFORMS
from edgecompress.images.wheel import EPOCH

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
        pytest.skip("needs hadolint, which the extra `dev` brings")
    said = subprocess.run([hadolint, str(file)], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


def test_what_the_builder_copies_exists_and_is_not_ignored() -> None:
    rules = [
        line
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    found = instructions(ROOT / "docker" / "builder.Dockerfile")
    copies = [rest for name, rest in found if name == "COPY" and "--from" not in rest]
    assert copies
    for source in (source for copy in copies for source in copy.split()[:-1]):
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


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_packages_are_installed_by_hash(file: Path) -> None:
    runs = [rest for name, rest in instructions(file) if name == "RUN"]
    words = " && ".join(runs).split("&&")
    installs = [each for each in words if re.search(r"\bpip\b.* (install|wheel) ", each)]
    assert installs
    for install in installs:
        ours = "/own" in install and "--no-deps" in install and "/locks/" not in install
        assert ours or "--require-hashes" in install, install


def test_the_runtime_image_is_the_same_for_every_builder() -> None:
    """Its last stage runs nothing, so an image for another architecture needs no emulator."""
    found = instructions(ROOT / "docker" / "runtime.Dockerfile")
    last = max(index for index, (name, _) in enumerate(found) if name == "FROM")
    names = [name for name, _ in found[last:]]
    assert "RUN" not in names
    assert {"HEALTHCHECK", "USER", "ENTRYPOINT"} <= set(names)


def test_compose_locks_up_what_answers() -> None:
    document = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
    services = document["services"]
    assert set(services) == {"answers", "recipes", "service"}
    for name in ("answers", "service"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in services["service"]["ports"])
    build = services["recipes"]["build"]
    assert (ROOT / "docker" / build["context"] / build["dockerfile"]).is_file()


def test_compose_and_bake_build_what_the_command_builds() -> None:
    compose = (ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8")
    bake = (ROOT / "docker" / "docker-bake.hcl").read_text(encoding="utf-8")
    assert f'SOURCE_DATE_EPOCH: "{EPOCH}"' in compose
    assert f'"SOURCE_DATE_EPOCH" {{ default = "{EPOCH}" }}' in bake
    for platform in PLATFORMS:
        assert f'"{platform}"' in bake
