"""Kinds of targets: ours, and one of docs/targets.md that lives in a package of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgecompress.errors import RecipeError
from edgecompress.targets import open_target
from edgecompress.targets.fleet import fleet_schema
from edgecompress.targets.kinds import kind_of, kinds
from edgecompress.targets.kinds.ssh import SshSpec
from edgecompress.values import Candidate, OnnxModel

PAGE = (Path(__file__).parents[2] / "docs" / "targets.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## A kind of target of your own")[2]


def installed(folder: Path, code: str, points: str) -> Path:
    """Write a package as an installer would: its module, and its dist-info with entry points."""
    info = folder / "their_targets-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-targets\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[edgecompress.targets]\n{points}\n")
    (folder / "their_targets.py").write_text(code)
    return folder


def run(*arguments: object, package: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgecompress", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
        env={
            **os.environ, "PYTHONPATH": str(package), "COLUMNS": "100",
            "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"),
            "EDGECOMPRESS_STORE": str(folder / "store"),
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the page."""
    code = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)[0]
    (toml,) = re.findall(r"```toml\n(.*?)```", SECTION, re.DOTALL)
    points = toml.partition("]\n")[2].replace('"', "").strip()
    return installed(tmp_path_factory.mktemp("package"), code, points)


def test_every_kind_is_found_and_brings_its_own_settings() -> None:
    assert {"local", "ssh", "emulated"} <= set(kinds())
    for name, kind in kinds().items():
        assert kind_of(kind.form) is kind
        assert all(kind_of(url) is kind for url in kind.urls())
        assert kind.form.partition("://")[0] == name
    assert kind_of("ssh") is None  # a name that a fleet may give
    assert kind_of("local://x") is None
    with pytest.raises(RecipeError, match=r"unknown target 'ftp://x'.*: a target is .*ssh://…"):
        open_target("ftp://x")


def test_the_schema_of_a_fleet_has_the_settings_of_every_kind() -> None:
    entries = [one for one in fleet_schema()["additionalProperties"]["anyOf"] if "title" in one]
    known = {entry["title"]: set(entry["properties"]) for entry in entries}
    assert known == {name: set(kind.model_fields) - {"name"} for name, kind in kinds().items()}
    assert set(SshSpec.model_fields) - {"name"} == known["ssh"]
    assert "key" not in known["local"]


def test_a_setting_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "targets.yaml").write_text("here:\n  url: local\n  idle_timeout_s: 3\n")
    done = run("targets", "list", package=tmp_path, folder=tmp_path)
    assert done.returncode == 2
    assert "targets.yaml:3" in done.stderr
    assert "unknown key" in done.stderr


def test_a_kind_from_elsewhere_is_used_like_ours(
    package: Path, tagger: Candidate, tmp_path: Path
) -> None:
    script = tmp_path / "wrapper"
    script.write_text(f'#!/bin/sh\necho ran >>{tmp_path / "log"}\nexec "$@"\n')
    script.chmod(0o755)
    (tmp_path / "targets.yaml").write_text(
        f"small: {{url: 'wrapped://small', command: ['{script}']}}\n"
    )
    assert isinstance(tagger.model, OnnxModel)

    def said(*arguments: object) -> str:
        done = run(*arguments, package=package, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed = said("targets", "list")
    assert "small  wrapped://small  latency, memory, answers" in listed
    assert "wrapped://name" in listed
    assert "✓ ready" in said("targets", "check", "small")
    assert said("targets", "prepare", "small") == "small: there is nothing to prepare\n"
    assert said("targets", "clean", "small") == "small: nothing was left there\n"
    assert '"command"' in said("schema", "--fleet")
    assert not (tmp_path / "log").exists()
    measured = said(
        "profile", tagger.model.path, "--target", "small", "--min-duration", "50ms", "--json"
    )
    lines = [json.loads(line) for line in measured.splitlines()]
    found = {line["metric"]: line for line in lines if line["target"] == "small"}
    assert found["latency_p50"]["value"] > 0
    assert found["peak_memory"]["value"] > 0
    assert (tmp_path / "log").read_text().count("ran") >= 4  # the loop, and three cold starts


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nothing_of_that_name\n", "cannot be imported"),
        ("Kind = 3\n", "names no TargetSpec that can be made"),
        ("from edgecompress.targets.kinds.local import LocalSpec as Kind\n", "'local', which is"),
    ],
)
def test_a_kind_that_is_none_is_told_in_one_sentence(code: str, said: str, tmp_path: Path) -> None:
    package = installed(tmp_path / "package", code, "x = their_targets:Kind")
    done = run("targets", "clean", "x://y", package=package, folder=tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert "their_targets:Kind" in done.stderr
    assert done.stderr.count("\n") == 1
