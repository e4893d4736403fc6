"""What a board is told to lack, and a board without network that is given what it needs."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from boards import Server, light_server, sshd

from edgecompress.errors import TargetError
from edgecompress.targets.base import Job, JobModel, feeds_from_rows
from edgecompress.targets.kinds.ssh import SshSpec
from edgecompress.targets.ssh.check import check, of_description, of_shell
from edgecompress.targets.ssh.prepare import prepare
from edgecompress.targets.ssh.shell import ShellFacts
from edgecompress.targets.ssh.target import Ssh
from edgecompress.targets.ssh.wheels import Platform, read_glibc, wanted_versions
from edgecompress.values import Candidate

BASE = getattr(sys, "_base_executable", sys.executable)
SPEC = SshSpec(name="pi4", url="ssh://pi@raspberrypi.local")
GOOD = ShellFacts(
    home="/home/pi",
    cache="/home/pi/.cache/edgecompress",
    machine="aarch64",
    bits="64",
    libc="glibc 2.36",
    kernel="6.6.31-v8+",
    boot="1",
    python="python3",
    version=(3, 11, 2),
)
FACTS = {"libraries": wanted_versions(), "governor": "performance", "emulated": False}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"bits": "32"}, "a 32-bit system"),
        ({"machine": "armv7l", "bits": "32"}, "64-bit Raspberry Pi OS"),
        ({"machine": "riscv64"}, "aarch64 and x86_64 only"),
        ({"libc": "musl libc (aarch64)"}, "need glibc"),
        ({"libc": "glibc 2.27"}, "glibc 2.27: the wheels need 2.28 or later"),
        ({"python": "", "version": ()}, "no python3: install it there: sudo apt install python3"),
        ({"version": (3, 7, 3)}, "Python 3.7.3: onnxruntime"),
    ],
)
def test_boards_that_cannot_be_used(change: dict[str, Any], what: str) -> None:
    findings = list(of_shell(dataclasses.replace(GOOD, **change), SPEC))
    assert any(
        one.level == "refused" and what in f"{one.what}: {one.advice}" for one in findings
    ), findings


def test_a_good_board_lacks_nothing() -> None:
    assert not list(of_shell(GOOD, SPEC))
    assert not list(of_description(FACTS, 10**9, GOOD.cache, SPEC))


@pytest.mark.parametrize(
    ("change", "free", "what", "refused"),
    [
        ({"libraries": {}}, 10**9, "targets prepare pi4", False),
        ({"libraries": wanted_versions() | {"onnxruntime": "1.20.0"}}, 10**9, "may differ", False),
        ({}, 50_000_000, "50 MB free", True),
        ({"libraries": {}}, 200_000_000, "make 400 MB free", True),
        ({"governor": "ondemand"}, 10**9, "scaling_governor", False),
        ({"emulated": True}, 10**9, "answers are sound", False),
    ],
)
def test_what_a_board_lacks(change: dict[str, Any], free: int, what: str, refused: bool) -> None:
    findings = list(of_description(FACTS | change, free, GOOD.cache, SPEC))
    (found,) = (one for one in findings if what in f"{one.what}: {one.advice}")
    assert (found.level == "refused") == refused


def test_platforms() -> None:
    found = Platform("aarch64", (2, 31), (3, 11))
    assert found.tags[0] == "manylinux_2_31_aarch64"
    assert found.tags[-1] == "manylinux2014_aarch64"
    assert "manylinux_2_32_aarch64" not in found.tags
    assert read_glibc("glibc 2.36") == (2, 36)
    assert read_glibc("musl libc") is None


def test_check_says_what_a_board_is(tmp_path: Path) -> None:
    with light_server(tmp_path / "board") as server:
        report = check(server.spec())
        assert report.usable
        assert report.ready
        assert (report.facts or {})["memory_bytes"] > 0
        assert report.host.endswith(f":{server.port}")
        assert not server.cache.exists()
        server.wait_until_quiet()


def test_check_without_python(tmp_path: Path) -> None:
    with light_server(tmp_path / "board") as server:
        report = check(server.spec(python="/nowhere/python"))
        assert not report.usable
        assert (report.facts or {})["machine"]
        assert "correct `python`" in report.findings[0].advice
        with pytest.raises(TargetError, match="cannot be used: /nowhere/python is no Python"):
            prepare(server.spec(python="/nowhere/python"))


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A board whose network is broken, and whose Python has no libraries and no pip."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    with (
        pytest.MonkeyPatch.context() as patch,
        sshd(tmp_path_factory.mktemp("prepare") / "board", environment=nowhere) as server,
    ):
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("host")))
        yield server


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bare") / "python"
    subprocess.run([BASE, "-m", "venv", "--without-pip", str(folder)], check=True)
    return str(folder / "bin" / "python")


_CHILD = """
import sys
from edgecompress.targets.kinds.ssh import SshSpec
from edgecompress.targets.ssh.prepare import prepare
prepare(SshSpec.model_validate_json(sys.argv[1]), lambda *said: print(said[2], flush=True))
"""


@pytest.mark.debian("openssh-server")
def test_a_board_is_prepared_without_network(
    board: Server, bare: str, tagger: Candidate, tmp_path: Path
) -> None:
    """Killed half-way it is mended by the next call; a repeated call does nothing."""
    spec = board.spec(python=bare)
    row = {"input_ids": np.array([[2, 4, 5, 3]]), "attention_mask": np.ones((1, 4), np.int64)}
    job = Job("answers", (JobModel(tagger.model),), (feeds_from_rows([row], [0]),))
    target = Ssh(spec)
    with pytest.raises(TargetError, match="edgecompress targets prepare board"):
        target.run(job, tmp_path / "before")
    target.close()

    command = [sys.executable, "-c", _CHILD, spec.model_dump_json()]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    while (line := child.stdout.readline()) != "installing them there\n":
        assert line
    child.kill()
    child.communicate()
    board.wait_until_quiet()
    assert not board.litter()
    assert not (board.cache / "venv").exists()

    prepared = prepare(spec)
    assert prepared.made
    assert prepared.versions == wanted_versions()
    assert prepared.python == f"{board.cache}/venv/bin/python"
    assert not list((board.cache / "files").rglob("*.whl"))  # a small board keeps its room
    assert not prepare(spec).made
    report = check(spec)
    assert report.ready
    assert all("energy" in one.what for one in report.findings)
    assert target.run(job, tmp_path / "after").outputs

    (package,) = board.cache.glob("venv/lib/python*/site-packages/onnxruntime/__init__.py")
    package.unlink()  # a damaged environment is made anew
    assert prepare(spec).made
    assert target.clean() > 10**8
    board.wait_until_quiet()
    assert not board.cache.exists()
    assert not board.litter()


@pytest.mark.debian("openssh-server")
def test_wheels_that_cannot_be_had(
    board: Server, bare: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {"onnxruntime": "0.0.1"}
    monkeypatch.setattr("edgecompress.targets.ssh.prepare.wanted_versions", lambda: wanted)
    monkeypatch.setattr("edgecompress.targets.ssh.wheels.wanted_versions", lambda: wanted)
    with pytest.raises(TargetError, match=r"the wheels for Python .* cannot be had") as caught:
        prepare(board.spec(python=bare))
    assert "\n" not in str(caught.value)
