"""Preparing emulated processors: what is missing is named, a kill does no harm, all is removed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgecompress.errors import TargetError
from edgecompress.targets import open_target
from edgecompress.targets.base import Job, JobModel, feeds_from_rows
from edgecompress.targets.emulated import clean, prepare, prepared, root, setup
from edgecompress.targets.emulated.setup import FOLDER_VARIABLE
from edgecompress.values import Candidate

X86 = "x86-avx2"  # where the host is one, it needs no download
KILLED = """\
import os, signal, sys

def count(event, arguments):
    global left
    if event in ("os.rename", "os.remove", "os.rmdir") and "edgecompress.targets" in sys.modules:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
"""
needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-x86_64") is None, reason="needs the Debian package qemu-user"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place to prepare in."""
    place = tmp_path / "emulation"
    monkeypatch.setenv(FOLDER_VARIABLE, str(place))
    return place


def only(programs: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide all programs but these."""
    place = tmp_path / "bin"
    place.mkdir()
    for name in programs:
        found = shutil.which(name)
        assert found is not None
        (place / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(place))


def test_without_qemu_and_apt_it_says_what_to_install(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only((), tmp_path, monkeypatch)
    with pytest.raises(TargetError) as caught:
        prepare("cortex-a72")
    assert str(caught.value).startswith(
        "emulated://cortex-a72 cannot be prepared before this host has the Debian packages "
        "qemu-user, apt, dpkg"
    )
    assert str(caught.value).endswith(
        "; install them and run: edgecompress targets prepare emulated://cortex-a72"
    )
    with pytest.raises(TargetError, match=r"has the Debian packages qemu-user; install"):
        prepare(X86)
    assert not prepared("cortex-a72")


def test_without_apt_it_says_what_to_install(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (qemu := shutil.which("qemu-aarch64")) is None:
        pytest.skip("needs the Debian package qemu-user")
    only((Path(qemu).name,), tmp_path, monkeypatch)
    with pytest.raises(TargetError, match=r"has the Debian packages apt, dpkg"):
        prepare("cortex-a72")
    assert not prepared("cortex-a72")


@pytest.mark.debian("qemu-user")
@needs_qemu
def test_without_a_compiler_answers_remain(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tagger: Candidate
) -> None:
    only(("qemu-x86_64", "env"), tmp_path, monkeypatch)
    target = open_target(f"emulated://{X86}")
    row = {"input_ids": np.array([[2, 4, 3]]), "attention_mask": np.ones((1, 3), np.int64)}
    feeds = (feeds_from_rows([row], [0]),)
    readings = target.run(Job("answers", (JobModel(tagger.model),), feeds), tmp_path / "answers")
    assert readings.outputs[0][0][0].shape[:2] == (1, 3)
    with pytest.raises(TargetError, match="not measured: there is no C compiler; install"):
        target.run(Job("instructions", (JobModel(tagger.model),), feeds), tmp_path / "counts")


@pytest.mark.debian("qemu-user")
@needs_qemu
def test_a_killed_preparation_is_made_good(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"from edgecompress.targets.emulated import prepare; prepare({X86!r})"
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as process:
        while not list(folder.glob(".part-*/made/cpu")):
            assert process.poll() is None
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
    assert list(folder.glob(".part-*"))
    assert not prepared(X86)

    said: list[tuple[float, float, str]] = []
    view = prepare(X86, lambda *step: said.append(step)).view
    assert (view / "proc" / "cpuinfo").is_file()
    assert prepared(X86)
    assert not list(folder.glob(".part-*"))
    assert said[-1][0] == said[-1][1]
    assert all(what.startswith(f"preparing emulated://{X86}") for _, _, what in said)

    def nothing(*_: object) -> None:
        raise AssertionError("what is there is not made again")

    (folder / ".part-done" / "work").mkdir(parents=True)  # of one that was killed at its very end
    assert prepare(X86, nothing).view == view
    assert not list(folder.glob(".part-*"))
    with monkeypatch.context() as patch:  # another version of a library is another root
        patch.setattr(root, "library_versions", lambda: {"onnxruntime": "0"})
        assert not prepared(X86)
    # Killed on the way out: what can be seen is whole.
    for event in (2, 4, 7):
        code = f"{KILLED}left = {event}\nfrom edgecompress.targets.emulated import clean\nclean()"
        killed = subprocess.run([sys.executable, "-c", code], check=False)
        assert killed.returncode == -signal.SIGKILL
        setup._digest.cache_clear()
        visible = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        assert all(setup._whole(entry) for entry in visible), event
    clean()
    assert not prepared(X86)
    assert not [entry for entry in folder.iterdir() if entry.is_dir()]
    clean()
