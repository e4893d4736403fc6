"""Kills sshd, a session, an RPC server, an agent or a client at a seeded moment of a job.

`tests/targets/test_ssh_kills.py` does it a few times, `benchmarks/kills.py` many.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from boards import Server
from lookup_models import write_model

VICTIMS = ("server", "session", "rpc server", "agent", "client")
MODES = ("answers", "time", "cold")
ROWS = 400_000
"""Rows of the model's table: 12.8 MB, so that a kill may meet its transfer."""
PATIENCE_S = 120.0
"""A client that runs longer hangs: its timeouts and its work are far below."""
_CLIENT = """
import json, sys
from pathlib import Path
from board_kills import job
from edgecompress.errors import TargetError
from edgecompress.targets.kinds.ssh import SshSpec
spec, mode, model, folder, answer = sys.argv[1:]
target = SshSpec.model_validate_json(spec).open()
print("go", flush=True)
try:
    readings = target.run(job(mode, Path(model)), Path(folder))
    found = {
        "outputs": [[row.tolist() for row in one] for model in readings.outputs for one in model],
        "ns": [series.ns.tolist() for series in readings.series],
        "cold": [[start["load_ns"] for start in starts] for starts in readings.cold],
    }
except TargetError as error:
    found = {"error": str(error)}
target.close()
aside = Path(answer + ".part")
aside.write_text(json.dumps(found))
aside.replace(answer)
"""


def job(mode: str, model: Path) -> object:
    """The job of all kills: one small model, a second of timing."""
    from edgecompress.targets.base import Job, JobModel, feeds_from_rows
    from edgecompress.values import OnnxModel

    rows = [
        {"input_ids": np.array([[2, 4 + step, 5, 3]]), "attention_mask": np.ones((1, 4), np.int64)}
        for step in range(20)
    ]
    return Job(
        mode,  # type: ignore[arg-type]
        (JobModel(OnnxModel(model)),),
        (feeds_from_rows(rows, range(20)),),
        warmup_ms=50.0,
        min_duration_ms=800.0,
        min_count=20,
        cold_starts=3,
        timeout_s=30.0,
    )


def make_model(folder: Path) -> Path:
    """Write the model: a large table beside a small graph."""
    table = np.random.default_rng(7).normal(size=(ROWS, 8)).astype(np.float32)
    write_model(folder / "model.onnx", table, pooled=True, external=True)
    return folder / "model.onnx"


def expected_answers(model: Path, folder: Path) -> list[list[object]]:
    """What this machine itself answers, in the client's form."""
    from edgecompress.targets.local import Local

    readings = Local().run(job("answers", model), folder)  # type: ignore[arg-type]
    return [[row.tolist() for row in one] for found in readings.outputs for one in found]


@dataclass(frozen=True)
class Outcome:
    """What a kill did: `said` is the client's error, empty when the result was right."""

    seed: int
    victim: str
    mode: str
    fresh: bool
    delay_s: float
    hit: bool
    said: str
    seconds: float


def kill_once(
    server: Server, seed: int, model: Path, expected: list[list[object]], folder: Path
) -> Outcome:
    """Run a job in a process of its own, kill something, and check what is left.

    Raises
    ------
    AssertionError
        A wrong number, a hang, a process or a file left behind, or a job that then fails again.
    """
    chance = random.Random(seed)
    victim, mode = VICTIMS[seed % len(VICTIMS)], chance.choice(MODES)
    fresh = chance.random() < 0.5
    if fresh:
        shutil.rmtree(server.cache, ignore_errors=True)
    delay_s = chance.uniform(0.0, 0.9)
    start = time.monotonic()
    client = _start_client(server, mode, model, folder / f"{seed}")
    try:
        hit = _strike(server, client, victim, delay_s)
        try:
            client.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"seed {seed}: the client hangs") from None
    finally:
        client.kill()
        client.communicate()
    seconds = time.monotonic() - start
    said = _judge(folder / f"{seed}" / "answer.json", mode, expected, seed, victim)
    server.wait_until_quiet()
    if victim != "rpc server":  # it removes the job folders; after its own death the next one does
        assert not server.litter(), f"seed {seed}: left behind: {server.litter()}"
    if server.process is None:
        server.start()
    again = _start_client(server, mode, model, folder / f"{seed}-again")
    again.communicate(timeout=PATIENCE_S)
    told = _judge(folder / f"{seed}-again" / "answer.json", mode, expected, seed, "nobody")
    assert not told, f"seed {seed}: the next run failed: {told}"
    server.wait_until_quiet()
    assert not server.litter(), f"seed {seed}: left behind: {server.litter()}"
    return Outcome(seed, victim, mode, fresh, delay_s, hit, said, seconds)


def _start_client(server: Server, mode: str, model: Path, folder: Path) -> subprocess.Popen[str]:
    (folder / "job").mkdir(parents=True)
    spec = server.spec(connect_timeout_s=5.0, idle_timeout_s=20.0)
    with (folder / "stderr.txt").open("wb") as errors:
        client = subprocess.Popen(
            [sys.executable, "-c", _CLIENT, spec.model_dump_json(), mode, str(model),
             str(folder / "job"), str(folder / "answer.json")],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        )  # fmt: skip
    assert client.stdout is not None
    assert client.stdout.readline() == "go\n", (folder / "stderr.txt").read_text()
    return client


def _strike(server: Server, client: subprocess.Popen[str], victim: str, delay_s: float) -> bool:
    """Kill the victim after `delay_s`, or as soon as it is there; give whether it was hit."""
    time.sleep(delay_s)
    while client.poll() is None:
        found: list[psutil.Process] = []
        if victim == "client":
            client.kill()
            return True
        if victim == "server":
            server.stop()
            return True
        if victim == "session":
            found = server.sessions()
        elif victim == "agent":
            found = server.agents()
        else:
            agents = {one.pid for one in server.agents()}
            found = [one for one in server.ours() if one.pid not in agents]
        for one in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        if found:
            return True
        time.sleep(0.005)
    return False


def _judge(answer: Path, mode: str, expected: list[list[object]], seed: int, victim: str) -> str:
    """Check what the client found; give its error, or nothing when its result is right."""
    if not answer.exists():
        errors = (answer.parent / "stderr.txt").read_text()
        assert victim == "client", f"seed {seed}: the client failed: {errors[-2000:]}"
        return "killed"
    found = json.loads(answer.read_text())
    if "error" in found:
        said = found["error"]
        assert said.startswith("board: "), said
        assert "\n" not in said, said
        return str(said)
    if mode == "answers":
        assert found["outputs"] == expected, f"seed {seed}: wrong answers"
    elif mode == "time":
        (ns,) = found["ns"]
        assert len(ns) >= 20 and min(ns) > 0, f"seed {seed}: wrong times"
    else:
        (starts,) = found["cold"]
        assert len(starts) == 3 and min(starts) > 0, f"seed {seed}: wrong starts"
    return ""
