"""Files on a board: carried once, gone on with where they ended, never damaged, never elsewhere."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from boards import LightServer, Server, light_server

from edgecompress.errors import TargetError
from edgecompress.targets.ssh import rpc_server
from edgecompress.targets.ssh.rpc_server.messages import RequestRefusedError
from edgecompress.targets.ssh.rpc_server.server import RpcServer
from edgecompress.targets.ssh.target import Ssh
from edgecompress.targets.ssh.transfer import known_digest


class Counting(asyncssh.SFTPServer):
    """Counts the bytes that are written; fails as it is told to."""

    written = 0
    offsets: list[int] = []  # noqa: RUF012 - shared on purpose
    fail_after: int | None = None
    error: int = errno.EIO
    cut: Any = None

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        cls = type(self)
        cls.offsets.append(offset)
        if cls.fail_after is not None and cls.written + len(data) > cls.fail_after:
            if cls.cut is not None:
                cls.cut()
            raise OSError(cls.error, os.strerror(cls.error))
        cls.written += len(data)
        return super().write(file_obj, offset, data)  # type: ignore[return-value]


@pytest.fixture
def counting() -> Iterator[type[Counting]]:
    Counting.written, Counting.offsets, Counting.fail_after = 0, [], None
    Counting.error, Counting.cut = errno.EIO, None
    yield Counting


@pytest.fixture(params=["sftp", "cat"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LightServer]:
    with light_server(tmp_path / "board", sftp=request.param == "sftp") as found:
        yield found


@pytest.fixture
def counted(counting: type[Counting], tmp_path: Path) -> Iterator[LightServer]:
    with light_server(tmp_path / "board", sftp=counting) as found:
        yield found


def big_file(folder: Path, megabytes: int = 5) -> Path:
    file = folder / "model ü'.onnx"
    file.write_bytes(os.urandom(megabytes * 1_000_000))
    return file


def test_files_lie_side_by_side_under_their_own_names(server: LightServer, tmp_path: Path) -> None:
    """Whether the board has SFTP or only a shell; names need no taming."""
    graph = big_file(tmp_path)
    weights = tmp_path / "parts" / "model.data"
    weights.parent.mkdir()
    weights.write_bytes(b"weights")
    target = Ssh(server.spec())
    there = Path(target.carry((graph, weights)))
    assert there.read_bytes() == graph.read_bytes()
    assert (there.parent / "parts" / "model.data").read_bytes() == b"weights"
    assert there.is_relative_to(server.cache / "models")
    target.close()
    server.wait_until_quiet()
    assert not server.litter()


def test_what_is_there_is_not_sent_again(
    counted: LightServer, counting: type[Counting], tmp_path: Path
) -> None:
    file = big_file(tmp_path)
    target = Ssh(counted.spec())
    first = target.carry((file,))
    assert counting.written == 5_000_000
    copy = tmp_path / "elsewhere" / file.name
    copy.parent.mkdir()
    copy.write_bytes(file.read_bytes())
    assert target.carry((copy,)) == first
    target.close()
    assert Ssh(counted.spec()).carry((file,)) == first
    assert counting.written == 5_000_000


def test_a_lost_transfer_goes_on_where_it_ended(
    counted: LightServer, counting: type[Counting], tmp_path: Path
) -> None:
    file = big_file(tmp_path)
    counting.fail_after, counting.cut = 3_000_000, counted.drop
    target = Ssh(counted.spec())
    with pytest.raises(TargetError, match="the same command goes on from there") as caught:
        target.carry((file,))
    assert "sending model" in str(caught.value)
    assert "lost" in str(caught.value)
    sent, counting.fail_after, counting.cut = counting.written, None, None
    assert sent >= 2_000_000
    counting.offsets.clear()
    there = Path(target.carry((file,)))
    assert there.read_bytes() == file.read_bytes()
    assert min(counting.offsets) >= 2_000_000
    assert counting.written < 5_000_000 + 1_000_000
    target.close()


def test_a_damaged_part_is_sent_anew(server: LightServer, tmp_path: Path) -> None:
    file = big_file(tmp_path, 1)
    target = Ssh(server.spec())
    target.describe()
    place = server.cache / "files" / known_digest(file)
    target.use("entering", lambda board: board.files())
    place.mkdir()
    (place / f"{file.name}.part").write_bytes(b"x" * 400_000)
    there = Path(target.carry((file,)))
    assert there.read_bytes() == file.read_bytes()
    assert [found.name for found in place.iterdir()] == [file.name]
    target.close()


def test_a_killed_client_leaves_a_part_to_go_on_with(
    counted: LightServer, counting: type[Counting], tmp_path: Path
) -> None:
    file = big_file(tmp_path, 60)
    code = (
        "import sys; from pathlib import Path\n"
        "from edgecompress.targets.kinds.ssh import SshSpec\n"
        "target = SshSpec.model_validate_json(sys.argv[1]).open()\n"
        "target.carry((Path(sys.argv[2]),), lambda *said: print('sending', flush=True))\n"
    )
    command = [sys.executable, "-c", code, counted.spec().model_dump_json(), str(file)]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    for _ in range(5):
        assert client.stdout.readline() == "sending\n"
    client.kill()
    client.communicate()
    counted.wait_until_quiet()
    assert not counted.litter()
    end = time.monotonic() + 30
    before = -1
    while counting.written != before and time.monotonic() < end:  # what was under way arrives
        before = counting.written
        time.sleep(0.3)
    assert 4_000_000 < before < 60_000_000
    target = Ssh(counted.spec())
    assert Path(target.carry((file,))).read_bytes() == file.read_bytes()
    assert counting.written < 60_000_000 + 2_000_000
    target.close()


def test_a_full_disk_is_named(
    counted: LightServer, counting: type[Counting], tmp_path: Path
) -> None:
    counting.fail_after, counting.error = 1_000_000, errno.ENOSPC
    target = Ssh(counted.spec())
    with pytest.raises(TargetError, match=r"is full: .*targets clean board.*goes on from there"):
        target.carry((big_file(tmp_path),))
    target.close()


def test_a_disk_that_fails_otherwise_is_named(
    counted: LightServer, counting: type[Counting], tmp_path: Path
) -> None:
    counting.fail_after = 1_000_000
    target = Ssh(counted.spec())
    with pytest.raises(TargetError, match=r"could not be stored in"):
        target.carry((big_file(tmp_path),))
    target.close()


def test_too_little_room_is_said_before_a_byte_is_sent(
    counted: LightServer,
    counting: type[Counting],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgecompress.targets.ssh.board.SPARE_BYTES", 10**18)
    target = Ssh(counted.spec())
    with pytest.raises(TargetError, match=r"is full: \d+ MB are needed and \d+ MB are free"):
        target.carry((big_file(tmp_path),))
    assert counting.written == 0
    target.close()


def test_external_data_outside_the_folder_is_refused(server: LightServer, tmp_path: Path) -> None:
    inside, outside = tmp_path / "in" / "model.onnx", tmp_path / "data"
    inside.parent.mkdir()
    inside.write_bytes(b"graph")
    outside.write_bytes(b"data")
    target = Ssh(server.spec())
    with pytest.raises(TargetError, match="lies outside the folder"):
        target.carry((inside, outside))
    target.close()


def test_clean_removes_the_cache_and_says_how_much(server: LightServer, tmp_path: Path) -> None:
    target = Ssh(server.spec())
    target.carry((big_file(tmp_path),))
    assert 5_000_000 <= target.clean() < 5_001_000  # what is linked twice counts once
    assert not server.cache.exists()
    assert target.clean() == 0
    server.wait_until_quiet()


def test_a_folder_of_others_is_left_alone(server: LightServer, tmp_path: Path) -> None:
    server.cache.mkdir()
    (server.cache / "thesis.txt").write_text("mine")
    target = Ssh(server.spec())
    with pytest.raises(TargetError, match="was not made by edgecompress, so it is left alone"):
        target.clean()
    with pytest.raises(TargetError, match="name an empty or a new folder as `cache`"):
        target.carry((big_file(tmp_path, 1),))
    assert [found.name for found in server.cache.iterdir()] == ["thesis.txt"]
    target.close()


def test_clean_waits_for_no_job_of_others(server: LightServer, tmp_path: Path) -> None:
    """While another connection has a session there, its folder stays."""
    first, second = Ssh(server.spec()), Ssh(server.spec())
    first.carry((big_file(tmp_path, 1),))
    time.sleep(1.1)
    with pytest.raises(TargetError, match="a job of another connection runs"):
        second.clean()
    first.close()
    server.wait_until_quiet()
    assert second.clean() > 0


def test_sessions_of_the_dead_are_swept(server: Server, tmp_path: Path) -> None:
    dead = server.cache / "jobs" / "dead" / "1"
    target = Ssh(server.spec())
    target.carry((big_file(tmp_path, 1),))
    target.close()
    dead.mkdir(parents=True)
    (dead / "inputs.npz").write_bytes(b"x")
    os.utime(dead.parent, (1, 1))
    target.carry((big_file(tmp_path, 1),))
    assert not dead.parent.exists()
    target.close()


def test_the_rpc_server_refuses_what_leaves_the_cache(tmp_path: Path) -> None:
    server = RpcServer()
    entered = server.enter(str(tmp_path / "cache"))
    digest = "0" * 64
    for wrong in ("../x", "a/b", "..", "", "a\0b"):
        with pytest.raises(RequestRefusedError):
            server.state(digest, wrong, 1)
        with pytest.raises(RequestRefusedError):
            server.begin_environment(wrong)
    for wrong in ("../../etc", "0" * 63, "G" * 64):
        with pytest.raises(RequestRefusedError):
            server.state(wrong, "x", 1)
        with pytest.raises(RequestRefusedError):
            server.link(wrong, [])
    for wrong in ("/etc", f"{entered['session']}/..", str(tmp_path), f"{entered['session']}/../.."):
        with pytest.raises(RequestRefusedError):
            server.drop(wrong)
    with pytest.raises(RequestRefusedError):
        server.link(digest, [["../x", digest, "x"]])
    server.end()


def test_the_rpc_server_needs_no_more_than_a_board_has() -> None:
    """It is sent as source and run by Python 3.9: nothing but the standard library."""
    ours = ("edgecompress.targets.agent.", "edgecompress.targets.ssh.rpc_server.")
    for file in Path(str(rpc_server.__file__)).parent.glob("*.py"):
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith(("import ", "from ")):
                name = line.split()[1]
                known = name.split(".")[0] in sys.stdlib_module_names
                assert known or name.startswith(ours), (file.name, line)
