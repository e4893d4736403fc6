"""Writing beside others: one command per output, private names, the umask, leftovers swept."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgecompress import writing as room
from edgecompress.errors import EdgeCompressError
from edgecompress.writing import private, put, replace_file, sweep, temporary, writing, writing_into

HOLD = """
import sys, time
from pathlib import Path
from edgecompress.writing import put, private, writing, writing_into
how, output, flag = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
with {"writing": writing, "into": writing_into, "private": lambda o: private(o, "-o")}[how](output) as folder:
    (folder / "half").write_text("half")
    flag.write_text("")
    time.sleep(600)
"""  # noqa: E501


def holder(how: str, output: Path) -> subprocess.Popen[bytes]:
    """Start a process that writes there and does not end; give it once it holds the output."""
    flag = output.parent.parent / f"flag-{time.monotonic_ns()}"
    process = subprocess.Popen([sys.executable, "-c", HOLD, how, str(output), str(flag)])
    limit = time.monotonic() + 60
    while not flag.exists():
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.01)
    return process


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("how", ["writing", "into"])
def test_a_second_command_is_told_who_writes_there(place: Path, how: str) -> None:
    output = place if how == "into" else place / "out"
    first = holder(how, output)
    try:
        enter = writing_into if how == "into" else writing
        with pytest.raises(EdgeCompressError) as error, enter(output):
            raise AssertionError("two commands write to the same output")
        said = str(error.value)
        assert str(output) in said
        assert f"process {first.pid}, since 2" in said
        assert "another -o" in said
        with writing(place / "other"):  # an output beside it is free
            pass
        assert first.poll() is None
        assert any(folder.joinpath("half").exists() for folder in place.iterdir())
    finally:
        first.kill()
        first.wait()
    with enter(output):  # its death frees the output, and what it left is gone
        assert len(list(place.iterdir())) == 1
    assert list(place.iterdir()) == []


def test_what_a_killed_command_left_is_swept_and_nothing_else(place: Path) -> None:
    first = holder("writing", place / "out")
    living = holder("writing", place / "living")
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    (leftover,) = [
        p for p in place.iterdir() if f'"pid": {first.pid}' in (p / room.HOLDER).read_text()
    ]
    (kept,) = [p for p in place.iterdir() if p != leftover]
    users = [".edgecompress-notes", ".edgecompress-0123456789ab-abc", "out.aside"]
    for name in users:
        (place / name).mkdir()
    (place / ".edgecompress-0123456789ab-abcdefgh").write_text("a file of the user")
    linked = place.parent / "linked"
    linked.mkdir()
    (linked / room.HOLDER).write_text("{}")
    (place / ".edgecompress-0123456789ab-linklink").symlink_to(linked)
    replace_file(place / "something-else", "text")  # any command that writes there sweeps
    assert not leftover.exists()
    assert (kept / "half").exists()
    assert all((place / name).exists() for name in users)
    assert (place / ".edgecompress-0123456789ab-abcdefgh").is_file()
    assert (linked / room.HOLDER).exists()
    living.kill()
    living.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder to another user needs root")
def test_what_belongs_to_another_user_is_left_alone(place: Path) -> None:
    folder = place / ".edgecompress-0123456789ab-abcdefgh"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    sweep(place)
    assert folder.exists()


def test_names_cannot_be_guessed_and_links_are_not_followed(place: Path) -> None:
    names = set()
    for _ in range(20):
        with writing(place / "out") as folder:
            names.add(folder.name)
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(names) == 20
    victim = place / "victim"
    victim.write_text("mine")
    (place / "out").symlink_to(victim)
    replace_file(place / "out", "new")  # the link is replaced, not what it points to
    assert victim.read_text() == "mine"
    assert not (place / "out").is_symlink()
    # What was planted where older versions wrote has no effect.
    for name in (".out.aside", ".out.part"):
        (place / name).symlink_to(victim)
    replace_file(place / "out", "newer")
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077, 0o000])
def test_files_and_folders_honour_the_umask(place: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        replace_file(place / "file", b"bytes")
        with writing(place / "folder") as aside:
            (aside / "made" / "sub").mkdir(parents=True)
            (aside / "made" / "sub" / "file").write_text("text")
            put(aside / "made", place / "folder")
    finally:
        os.umask(before)
    modes = {
        path.relative_to(place).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in place.rglob("*")
    }
    assert modes == {
        "file": 0o666 & ~umask,
        "folder": 0o777 & ~umask,
        "folder/sub": 0o777 & ~umask,
        "folder/sub/file": 0o666 & ~umask,
    }


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_as_a_whole(
    place: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:  # a file system that cannot exchange two folders
        monkeypatch.setattr(room, "_exchange", lambda one, other: False)
    (place / "out").mkdir()
    (place / "out" / "old").write_text("old")
    with writing(place / "out") as aside:
        (aside / "made").mkdir()
        (aside / "made" / "new").write_text("new")
        put(aside / "made", place / "out")
    assert [path.name for path in (place / "out").iterdir()] == ["new"]
    assert [path.name for path in place.iterdir()] == ["out"]


def test_killed_between_two_renames_the_old_one_comes_back(place: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom edgecompress import writing\n"
        "writing._exchange = lambda one, other: False\n"
        "out = Path(sys.argv[1])\n"
        "with writing.writing(out) as aside:\n"
        "    (aside / 'made').mkdir()\n"
        "    rename = Path.rename\n"
        "    def once(self, to):\n"
        "        rename(self, to)\n"
        "        os.kill(os.getpid(), 9)\n"
        "    Path.rename = once\n"
        "    writing.put(aside / 'made', out)\n"
    )
    (place / "out").mkdir()
    (place / "out" / "old").write_text("old")
    done = subprocess.run([sys.executable, "-c", code, str(place / "out")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (place / "out").exists()
    sweep(place)
    assert (place / "out" / "old").read_text() == "old"
    assert [path.name for path in place.iterdir()] == ["out"]


def test_a_failure_leaves_nothing_not_even_folders_above(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), writing(tmp_path / "new" / "deep" / "out") as aside:
        (aside / "half").write_text("half")
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []


def test_temporary_folders_of_killed_commands_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "deep").mkdir()
    killed = holder("private", tmp_path)
    killed.kill()
    killed.wait()
    assert len([p for p in tmp_path.iterdir() if p.name.startswith(room.PREFIX)]) == 1
    with temporary() as one, temporary() as other:  # several commands may have one each
        assert one != other
        found = [p for p in tmp_path.iterdir() if p.name.startswith(room.PREFIX)]
        assert sorted(found) == sorted([one, other])
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(room.PREFIX)]


def test_someone_who_holds_the_folder_above_cannot_stop_us(place: Path) -> None:
    code = (
        "import fcntl, os, sys, time\n"
        "fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)\n"
        "print('held', flush=True)\ntime.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(place)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    try:
        replace_file(place / "out", "text")
        assert (place / "out").read_text() == "text"
        with private(place, "-o"), writing(place / "more"):
            pass
    finally:
        other.kill()
        other.communicate()
