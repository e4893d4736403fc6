"""This machine as a target: what happens when the agent fails, hangs or is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from edgecompress.errors import DataError, TargetError
from edgecompress.targets import local, open_target
from edgecompress.targets.base import Job, JobModel, feeds_from_rows
from edgecompress.targets.jobs import read_readings
from edgecompress.targets.local import Local, machine_lock
from edgecompress.targets.process import run_agent
from edgecompress.values import Candidate, OnnxModel, TorchModel

ROW = {"input_ids": np.array([[2, 4, 5, 3]]), "attention_mask": np.ones((1, 4), np.int64)}
FEEDS = (feeds_from_rows([ROW], [0]),)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep these timings apart from those of other processes of this user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def job(model: OnnxModel | TorchModel | None, mode: str = "answers", **fields: object) -> Job:
    return Job(mode, (JobModel(model),), FEEDS, **fields)  # type: ignore[arg-type]


def test_names() -> None:
    assert open_target("local") == Local()


def test_readings_come_back(tagger: Candidate, tmp_path: Path) -> None:
    said: list[float] = []
    quick = {"warmup_ms": 0.0, "max_warmup_ms": 50.0, "min_duration_ms": 700.0, "min_count": 5}
    readings = Local().run(
        Job("time", (JobModel(tagger.model), JobModel(None)), FEEDS, **quick),  # type: ignore[arg-type]
        tmp_path / "job",
        lambda done, total, what: said.append(done / total),
    )
    assert readings.loop is not None
    assert readings.loop.duration_ms >= 700
    assert readings.loop.cpu_share is not None
    assert 0 < readings.loop.cpu_share <= 1.1
    assert [len(series.ns) >= 5 for series in readings.series] == [True, True]
    assert said
    assert all(0 <= share <= 1 for share in said)


def test_each_cold_start_is_a_fresh_process(tagger: Candidate, tmp_path: Path) -> None:
    readings = Local().run(job(tagger.model, "cold", cold_starts=2), tmp_path / "job")
    assert [len(starts) for starts in readings.cold] == [2]
    assert all(start["peak_bytes"] > start["bare_bytes"] for start in readings.cold[0])


def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"this is no protobuf")
    with pytest.raises(DataError, match=r"model\.onnx: not an ONNX model") as caught:
        Local().run(job(OnnxModel(broken)), tmp_path / "job")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["time", "cold"])
def test_a_model_that_is_not_there(mode: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.onnx: the model is missing"):
        Local().run(job(OnnxModel(tmp_path / "gone.onnx"), mode), tmp_path / "job")


def test_an_input_that_the_model_lacks(tagger: Candidate, tmp_path: Path) -> None:
    feeds = (feeds_from_rows([{"input_ids": ROW["input_ids"]}], [0]),)
    with pytest.raises(TargetError, match="attention_mask"):
        Local().run(Job("answers", (JobModel(tagger.model),), feeds), tmp_path / "job")


def launch(code: str, folder: Path, timeout_s: float = 60.0) -> None:
    folder.mkdir(exist_ok=True)
    run_agent(
        [sys.executable, "-c", code], {}, folder, job(None, timeout_s=timeout_s), "local", None
    )


def test_an_agent_that_is_killed(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="ended by SIGKILL; memory may have run out"):
        launch("import os; os.kill(os.getpid(), 9)", tmp_path)


def test_an_agent_that_fails_without_a_word(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="exit status 3 without a word"):
        launch("raise SystemExit(3)", tmp_path)


def test_only_the_last_line_is_told(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"^local: the agent failed: ValueError: no$"):
        launch("raise ValueError('no')", tmp_path)


def test_an_agent_that_hangs_is_ended(tmp_path: Path) -> None:
    before = set(psutil.Process().children())  # such as another test's dockerd
    with pytest.raises(TargetError, match="said nothing for"):
        launch("import time; time.sleep(600)", tmp_path, timeout_s=0.5)
    assert not set(psutil.Process().children()) - before


def test_noise_on_standard_output_is_no_progress(tmp_path: Path) -> None:
    launch("print('{not json'); print('{}'); print('hello')", tmp_path)


def test_damaged_readings(tmp_path: Path) -> None:
    (tmp_path / "readings.json").write_text("{")
    with pytest.raises(TargetError, match="damaged"):
        read_readings(job(None, "time"), tmp_path, "local")


LONG = """
import sys
from pathlib import Path
import numpy as np
from edgecompress.targets.base import Job, JobModel, feeds_from_rows
from edgecompress.targets.local import Local
from edgecompress.values import OnnxModel
row = {"input_ids": np.array([[2, 4, 5, 3]]), "attention_mask": np.ones((1, 4), np.int64)}
job = Job("time", (JobModel(OnnxModel(Path(sys.argv[1]))),), (feeds_from_rows([row], [0]),),
          min_duration_ms=6e5, max_duration_ms=6e5)
Local().run(job, Path(sys.argv[2]), lambda *said: print("timing", flush=True))
"""


def start_long_job(tagger: Candidate, folder: Path) -> tuple[subprocess.Popen[str], psutil.Process]:
    """Start a process that times for ten minutes; give it and its agent, once that is timing."""
    assert isinstance(tagger.model, OnnxModel)
    process = subprocess.Popen(
        [sys.executable, "-c", LONG, str(tagger.model.path), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "timing\n"
    (agent,) = psutil.Process(process.pid).children()
    return process, agent


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_the_agent_ends_with_its_parent(ending: int, tagger: Candidate, tmp_path: Path) -> None:
    """Ctrl-C ends the agent at once; after kill -9 the agent sees itself that it is alone."""
    process, agent = start_long_job(tagger, tmp_path / "job")
    try:
        os.kill(process.pid, ending)
        process.communicate(timeout=60)
        psutil.wait_procs([agent], timeout=60)
        assert not agent.is_running() or agent.status() == psutil.STATUS_ZOMBIE
    finally:
        if agent.is_running():
            agent.kill()
        process.kill()
        process.communicate()


def test_one_timing_at_a_time(tmp_path: Path) -> None:
    code = (
        "from edgecompress.targets.local import machine_lock\n"
        "print('waiting', flush=True)\n"
        "with machine_lock(): print('mine', flush=True)\n"
    )
    with machine_lock():
        other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert other.stdout.readline() == "waiting\n"
        time.sleep(0.5)
        assert other.poll() is None
    assert other.communicate(timeout=60)[0] == "mine\n"


def test_waiting_for_another_timing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "TELL_S", 0.1)
    said: list[str] = []
    held = threading.Event()

    def hold() -> None:
        with machine_lock():
            held.set()
            while not said:
                time.sleep(0.02)

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(30)
    with machine_lock(lambda _done, _total, what: said.append(what)):
        other.join()
    assert said[0] == "waiting for another timing on this machine"


def test_a_home_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with machine_lock():
        pass
