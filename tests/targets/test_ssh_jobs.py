"""Jobs on a board behind a real sshd: right answers, and every way in which one fails."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from boards import Server, light_server, sshd

from edgecompress.errors import TargetError
from edgecompress.targets.agent import watchdog
from edgecompress.targets.base import Job, JobModel, feeds_from_rows
from edgecompress.targets.conformance import check_target
from edgecompress.targets.local import Local
from edgecompress.targets.ssh.target import Ssh
from edgecompress.values import Candidate, OnnxModel

pytestmark = pytest.mark.debian("openssh-server")
ROW = {"input_ids": np.array([[2, 4, 5, 3]]), "attention_mask": np.ones((1, 4), np.int64)}
FEEDS = (feeds_from_rows([ROW, ROW], [0, 1]),)
QUICK = {"warmup_ms": 0.0, "max_warmup_ms": 50.0, "min_duration_ms": 300.0, "min_count": 5,
         "cold_starts": 2}  # fmt: skip


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with sshd(tmp_path_factory.mktemp("jobs") / "board") as server:
        yield server


@pytest.fixture
def target(board: Server) -> Iterator[Ssh]:
    found = Ssh(board.spec())
    yield found
    found.close()
    board.wait_until_quiet()
    assert not board.litter()


def job(model: object, mode: str = "answers", **fields: Any) -> Job:
    return Job(mode, (JobModel(model),), FEEDS, **(QUICK | fields))  # type: ignore[arg-type]


def test_answers_are_those_of_the_same_processor_here(
    target: Ssh, classifier: Candidate, tmp_path: Path
) -> None:
    asked = job(classifier.model)
    here = Local().run(asked, tmp_path / "here").outputs
    there = target.run(asked, tmp_path / "there").outputs
    for one, other in zip(here[0][0], there[0][0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert {file.name for file in (tmp_path / "there").iterdir()} >= {
        "job.json",
        "readings.json",
        "outputs-0.npz",
    }


def test_a_board_keeps_the_contract(board: Server) -> None:
    found = check_target(board.spec(), clean=True)
    assert {"latency_p50", "throughput", "peak_memory"} <= {one.metric for one in found}
    board.wait_until_quiet()
    assert not board.cache.exists()


def test_times_come_back(target: Ssh, tagger: Candidate, tmp_path: Path) -> None:
    said: list[str] = []
    asked = job(tagger.model, "time", min_duration_ms=1200.0)
    readings = target.run(asked, tmp_path / "job", lambda done, total, what: said.append(what))
    assert readings.loop is not None
    assert readings.loop.duration_ms >= 1200
    assert not readings.loop.emulated
    assert len(readings.series[0].ns) >= 5
    assert "timing" in said


def test_each_cold_start_is_a_fresh_process(target: Ssh, tagger: Candidate, tmp_path: Path) -> None:
    readings = target.run(job(tagger.model, "cold"), tmp_path / "job")
    assert [len(starts) for starts in readings.cold] == [2]
    assert all(start["peak_bytes"] > start["bare_bytes"] for start in readings.cold[0])


def test_an_input_that_the_model_lacks(target: Ssh, tagger: Candidate, tmp_path: Path) -> None:
    feeds = (feeds_from_rows([{"input_ids": ROW["input_ids"]}], [0]),)
    asked = Job("answers", (JobModel(tagger.model),), feeds)
    with pytest.raises(TargetError, match=r"^board: .*: the agent failed: .*mask") as caught:
        target.run(asked, tmp_path / "job")
    assert "\n" not in str(caught.value)


class Striking:
    """Does something to the board once a job's agent runs there."""

    def __init__(self, board: Server, strike: Callable[[psutil.Process], object]) -> None:
        self._board, self._strike = board, strike
        self._thread = threading.Thread(target=self._wait, daemon=True)

    def _wait(self) -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            for agent in self._board.agents():
                time.sleep(0.3)
                self._strike(agent)
                return
            time.sleep(0.01)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join(40)


LONG = {"min_duration_ms": 6e5, "max_duration_ms": 6e5}


def test_an_agent_that_is_killed(
    target: Ssh, board: Server, tagger: Candidate, tmp_path: Path
) -> None:
    with (
        Striking(board, lambda agent: agent.kill()),
        pytest.raises(TargetError, match="ended by SIGKILL; memory may have run out; the same"),
    ):
        target.run(job(tagger.model, "time", **LONG), tmp_path / "job")
    assert target.run(job(tagger.model), tmp_path / "again").outputs


def test_a_shell_that_says_how_the_agent_ended(tagger: Candidate, tmp_path: Path) -> None:
    """A command that is run by a shell of the board ends with 128 and the signal's number."""
    forced = 'ForceCommand sh -c "$SSH_ORIGINAL_COMMAND"; exit $?'
    with sshd(tmp_path / "forced", forced) as server:
        target = Ssh(server.spec())
        with (
            Striking(server, lambda agent: agent.kill()),
            pytest.raises(TargetError, match="ended by SIGKILL"),
        ):
            target.run(job(tagger.model, "time", **LONG), tmp_path / "job")
        target.close()


def test_an_agent_that_hangs_is_ended(
    target: Ssh, board: Server, tagger: Candidate, tmp_path: Path
) -> None:
    with (
        Striking(board, lambda agent: agent.suspend()),
        pytest.raises(TargetError, match="said nothing for 2 s and was ended"),
    ):
        target.run(job(tagger.model, "time", timeout_s=2.0, **LONG), tmp_path / "job")
    board_is_free(board)


def board_is_free(board: Server) -> None:
    end = time.monotonic() + 30
    while board.agents():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_session_that_is_killed(
    target: Ssh, board: Server, tagger: Candidate, tmp_path: Path
) -> None:
    def strike(agent: psutil.Process) -> None:
        for session in board.sessions():
            session.kill()

    with (
        Striking(board, strike),
        pytest.raises(
            TargetError,
            match="the connection was lost while timing, though it can be reached now; the same",
        ),
    ):
        target.run(job(tagger.model, "time", **LONG), tmp_path / "job")
    board_is_free(board)
    assert target.run(job(tagger.model), tmp_path / "again").outputs


def test_a_server_that_is_gone(tagger: Candidate, tmp_path: Path) -> None:
    with sshd(tmp_path / "board") as server:
        target = Ssh(server.spec())
        with (
            Striking(server, lambda agent: server.stop()),
            pytest.raises(TargetError, match="while timing, and it cannot be reached now; the"),
        ):
            target.run(job(tagger.model, "time", **LONG), tmp_path / "job")
        server.wait_until_quiet()
        assert not server.litter()
        with pytest.raises(TargetError, match="nothing listens on port"):
            target.describe()
        server.start()
        assert target.run(job(tagger.model), tmp_path / "again").outputs
        target.close()


def test_a_board_that_was_rebooted(
    target: Ssh,
    board: Server,
    tagger: Candidate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It answers again, but its boot id is another one."""

    def strike(agent: psutil.Process) -> None:
        for session in board.sessions():
            session.kill()

    async def other(*_: object) -> str:
        return "another"

    monkeypatch.setattr("edgecompress.targets.ssh.target.boot_id", other)
    with (
        Striking(board, strike),
        pytest.raises(TargetError, match="while timing: the board was rebooted; the same"),
    ):
        target.run(job(tagger.model, "time", **LONG), tmp_path / "job")


def test_a_full_disk_of_the_agent(tagger: Candidate, tmp_path: Path) -> None:
    """What the agent writes finds no room: its own words are turned into what to do."""
    with light_server(tmp_path / "board", limit='case "$0" in *) ;; esac; ') as server:
        target = Ssh(server.spec(python=str(full_disk_python(tmp_path))))
        with pytest.raises(TargetError, match=r"the disk with .* is full: nothing more can"):
            target.run(job(tagger.model), tmp_path / "job")
        target.close()
        server.wait_until_quiet()
        assert not server.litter()


def full_disk_python(folder: Path) -> Path:
    """A Python whose agent meets a full disk."""
    script = folder / "python"
    script.write_text(
        "#!/bin/sh\n"
        'case "$1" in *.pyz)\n'
        "    echo 'OSError: [Errno 28] No space left on device' >&2; exit 1;;\n"
        "esac\n"
        f'exec {sys.executable} "$@"\n'
    )
    script.chmod(0o755)
    return script


def test_the_interrupt_of_a_person(board: Server, tagger: Candidate, tmp_path: Path) -> None:
    """Ctrl-C ends the agent there at once."""
    code = (
        "import sys; from pathlib import Path; import numpy as np\n"
        "from edgecompress.targets import *\n"
        "from edgecompress.targets.kinds.ssh import SshSpec\n"
        "from edgecompress.targets.base import feeds_from_rows\n"
        "from edgecompress.values import OnnxModel\n"
        "row = {'input_ids': np.array([[2, 4, 5, 3]]),\n"
        "       'attention_mask': np.ones((1, 4), np.int64)}\n"
        "job = Job('time', (JobModel(OnnxModel(Path(sys.argv[2]))),),\n"
        "          (feeds_from_rows([row], [0]),), min_duration_ms=6e5, max_duration_ms=6e5)\n"
        "target = SshSpec.model_validate_json(sys.argv[1]).open()\n"
        "target.run(job, Path(sys.argv[3]), lambda *said: print(said[2], flush=True))\n"
    )
    assert isinstance(tagger.model, OnnxModel)
    client = subprocess.Popen(
        [sys.executable, "-c", code, board.spec().model_dump_json(), str(tagger.model.path),
         str(tmp_path / "job")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert client.stdout is not None
    try:
        while client.stdout.readline() != "timing\n":
            assert client.poll() is None, client.communicate()
        client.send_signal(signal.SIGINT)
        _, errors = client.communicate(timeout=60)
        assert "KeyboardInterrupt" in errors
        assert "Task was destroyed" not in errors
    finally:
        client.kill()
        client.communicate()
    board.wait_until_quiet(20)
    assert not board.litter()


def test_one_timing_on_a_board_at_a_time(board: Server, tagger: Candidate, tmp_path: Path) -> None:
    """The second waits, says so, and times when the first is done."""
    said: list[str] = []
    first, second = Ssh(board.spec()), Ssh(board.spec())
    asked = job(tagger.model, "time", min_duration_ms=4000.0, max_duration_ms=8000.0)
    running = threading.Thread(target=first.run, args=(asked, tmp_path / "first"))
    running.start()
    while not board.agents():
        time.sleep(0.02)
    time.sleep(1)
    readings = second.run(
        job(tagger.model, "time"), tmp_path / "second", lambda *told: said.append(told[2])
    )
    running.join()
    assert readings.loop is not None
    assert "waiting for another timing on this board" in said
    assert (tmp_path / "first" / "readings.json").exists()
    for one in (first, second):
        one.close()


@pytest.mark.parametrize("ending", ["silence", "end"])
def test_the_watchdog(ending: str) -> None:
    """An agent ends when its input does, and when nobody sends a byte any more."""
    code = (
        "import os, time; from edgecompress.targets.agent import watchdog\n"
        "watchdog.start(); print('started', flush=True); time.sleep(600)\n"
    )
    environment = {**os.environ, "EDGECOMPRESS_WATCHDOG": "2" if ending == "silence" else "600"}
    agent = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert agent.stdin is not None
    assert agent.stdout is not None
    try:
        assert agent.stdout.readline() == b"started\n"
        for _ in range(6):  # longer than the silence that it bears
            agent.stdin.write(b"\n")
            agent.stdin.flush()
            time.sleep(0.5)
        assert agent.poll() is None
        if ending == "end":
            agent.stdin.close()
        assert agent.wait(30) == watchdog.ENDED
    finally:
        agent.kill()
        with contextlib.suppress(BrokenPipeError):
            agent.stdin.close()
        agent.wait()
        agent.stdout.close()
        assert agent.stderr is not None
        agent.stderr.close()
