"""What is executed from a cache lies in a folder that nobody else could have written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgecompress import private
from edgecompress.errors import EdgeCompressError, TargetError
from edgecompress.private import distrust, own_folder
from edgecompress.targets import machine
from edgecompress.targets.archive import agent_archive, agent_bytes
from edgecompress.targets.emulated import setup

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="acting for two users needs root")
ME, OTHER = 12345, 23456


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder as /tmp is: everybody's, sticky."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def test_a_folder_of_our_own_is_made_and_closed(shared: Path) -> None:
    folder = shared / "deep" / "cache"
    before = os.umask(0)
    try:
        assert own_folder(folder) is None
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    assert own_folder(folder) is None
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o722])
def test_a_folder_that_others_can_write_is_none(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(mode)
    assert "can be written by other users" in str(own_folder(folder))
    above = folder / "inner"
    above.mkdir()
    if mode & 0o1000:  # in a sticky folder only the owner can rename it
        assert own_folder(above) is None
    else:
        assert str(folder) in str(own_folder(above))


@needs_root
def test_a_folder_or_link_of_another_user_is_none(shared: Path) -> None:
    planted = shared / "planted"
    planted.mkdir(mode=0o700)
    os.chown(planted, OTHER, OTHER)
    assert "belongs to another user" in str(distrust(planted))
    ours = shared / "ours"
    ours.mkdir(mode=0o700)
    link = shared / "link"
    link.symlink_to(ours)
    assert distrust(link) is None
    os.lchown(link, OTHER, OTHER)
    assert "link belongs to another user" in str(distrust(link))
    # A link that is ours, over one that is not.
    (shared / "first").symlink_to(link)
    assert "link belongs to another user" in str(distrust(shared / "first" / "."))


def test_a_link_into_a_folder_that_others_can_write_is_none(tmp_path: Path) -> None:
    opened = tmp_path / "open"
    (opened / "real").mkdir(parents=True)
    (opened / "way").symlink_to("real")
    (tmp_path / "link").symlink_to("open/../open/way")
    assert distrust(tmp_path / "link") is None
    opened.chmod(0o777)
    assert "open can be written" in str(distrust(tmp_path / "link"))
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(OSError, match="symbolic links"):
        distrust(tmp_path / "round")


def agent_of(user: int, home: Path, temporary: Path) -> str:
    """Ask for the agent's file as another user whose home is `home`; give its path, or the refusal.

    In a process of its own that is forked: another user may not be able to start this Python.
    """
    import platformdirs  # noqa: F401 - read before the rights to do so are gone

    agent_bytes()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            private._trusted.cache_clear()
            private._own_group.cache_clear()
            os.environ |= {"HOME": str(home), "XDG_CACHE_HOME": ""}
            tempfile.tempdir = str(temporary)
            try:
                said = str(agent_archive())
            except EdgeCompressError as error:
                said = f"refused: {error}"
            os.write(writing, said.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return said


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder as /tmp is that other users can reach, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o1777)
        yield folder


@needs_root
def test_nothing_planted_in_the_temporary_folder_is_executed(open_to_all: Path) -> None:
    """Where the home cannot be written, each way to plant a cache in the shared folder fails."""
    shared, nowhere = open_to_all, Path("/nonexistent")
    place = shared / f"edgecompress-{ME}"
    file = Path(agent_of(ME, nowhere, shared))
    assert file.is_relative_to(place)
    assert file.read_bytes() == agent_bytes()
    file.write_bytes(b"other")  # damaged: it is made again
    assert Path(agent_of(ME, nowhere, shared)).read_bytes() == agent_bytes()
    target = shared / "target"
    place.rename(target)

    place.mkdir(mode=0o777)  # another user was first
    place.chmod(0o777)
    os.chown(place, OTHER, OTHER)
    (place / file.name).write_bytes(b"planted")
    said = agent_of(ME, nowhere, shared)
    assert said.startswith("refused: there is no private folder")
    assert "belongs to another user" in said
    assert "XDG_CACHE_HOME" in said
    assert (place / file.name).read_bytes() == b"planted"
    (place / file.name).unlink()
    place.rmdir()

    place.symlink_to(target)  # a link of another user, to a folder that is even ours
    os.lchown(place, OTHER, OTHER)
    assert agent_of(ME, nowhere, shared).startswith("refused: there is no private folder")
    place.unlink()

    target.rename(place)  # ours, but open to all
    place.chmod(0o777)
    assert "can be written by other users" in agent_of(ME, nowhere, shared)


def test_an_agent_that_was_changed_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = agent_archive()
    assert file.parent == machine.cache_folder() == tmp_path / "edgecompress"
    file.write_bytes(b"print('planted')")
    assert agent_archive().read_bytes() == agent_bytes()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(agent_bytes())
    file.unlink()
    file.symlink_to(elsewhere)
    assert not agent_archive().is_symlink()


def test_what_was_prepared_is_used_only_as_it_was_made(tmp_path: Path) -> None:
    """A root, an emulator or a plugin in which a byte or a link changed is not whole."""

    def fill(aside: Path, _: Path) -> None:
        (aside / "bin").mkdir()
        (aside / "bin" / "python").write_text("program")
        (aside / "lib").symlink_to("bin")

    def made(name: str) -> Path:
        setup._build(tmp_path / name, tmp_path, fill)
        return tmp_path / name

    assert setup._whole(made("whole"))
    (made("changed") / "bin" / "python").write_text("prograM")
    (made("added") / "bin" / "numpy.py").write_text("more")
    (made("linked") / "lib").unlink()
    (tmp_path / "linked" / "lib").symlink_to("/tmp")
    (made("lost") / "bin" / "python").unlink()
    (made("unmarked") / "marker.json").write_text("{}")
    for name in ("changed", "added", "linked", "lost", "unmarked", "absent"):
        assert not setup._whole(tmp_path / name), name


def test_an_emulation_folder_that_others_can_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "emulation"
    folder.mkdir()
    monkeypatch.setenv(setup.FOLDER_VARIABLE, str(folder))
    assert setup.emulation_folder() == folder
    folder.chmod(0o777)
    with pytest.raises(TargetError, match=r"nothing is run from .*can be written by other users"):
        setup.emulation_folder()
