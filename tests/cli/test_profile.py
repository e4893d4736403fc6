"""``edgecompress profile``: what is wrong is said in one line, and Ctrl-C leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from commands import in_process
from foreign_models import lstm

from edgecompress.values import Candidate

COMMAND = [sys.executable, "-m", "edgecompress", "profile"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lstm(tmp_path_factory.mktemp("models") / "lstm.onnx")


def run(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"EDGECOMPRESS_STORE": str(folder / "store"), "COLUMNS": "80"}
    return in_process("profile", *arguments, cwd=folder, **environment)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--threads", "0"], "no list of whole numbers from 1 on"),
        (["--arena", "maybe"], "is not one of 'on', 'off', 'both'"),
        (["--size", "time"], "not NAME=N"),
        (["--min-duration", "10"], "no time with its unit"),
        (["--inputs", "none.npz"], "File 'none.npz' does not exist"),
        (["--targets", "none.yaml"], "File 'none.yaml' does not exist"),
        (["--compare"], "--compare takes two models, not 1"),
        (["--thread", "2"], "there is no option --thread; did you mean '--threads'"),
        (["--size", "tme=4"], "no size of this name; did you mean 'time'"),
        (["--size", "ids.0=4"], "the graph calls this axis 'time'; set that"),
        (["--bound", "idz=4"], "no such input; did you mean 'ids'"),
        (["--target", "nowhere"], "unknown target 'nowhere'"),
        (["--threads", "4", "--affinity", "0"], "4 threads need as many cores"),
    ],
)
def test_options_that_are_wrong(arguments, said, model: Path, tmp_path: Path) -> None:
    done = run(model, *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert done.stdout == ""


def test_an_unknown_target_has_a_nearest_one(model: Path, tmp_path: Path) -> None:
    (tmp_path / "targets.yaml").write_text("pi4: ssh://pi@raspberrypi.local\n")
    for extra in ([], ["--targets", "targets.yaml"]):
        done = run(model, "--target", "pi5", *extra, folder=tmp_path)
        assert done.returncode == 2
        assert "unknown target 'pi5'; did you mean 'pi4'?" in done.stderr


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.onnx", None, "none.onnx: there is no such model"),
        ("none", None, "none: there is no such model"),
        ("empty.onnx", b"", "empty.onnx: not an ONNX model"),
        ("text.txt", b"not a model", "text.txt: not an ONNX model"),
        ("cut.onnx", 400, "cut.onnx: not an ONNX model"),
        ("folder", "folder", "name lstm.onnx in it"),
    ],
)
def test_models_that_are_none(name, content, said, model: Path, tmp_path: Path) -> None:
    file = tmp_path / name
    if content == "folder":
        file.mkdir()
        (file / "lstm.onnx").write_bytes(model.read_bytes())
    elif isinstance(content, int):
        file.write_bytes(model.read_bytes()[:content])
    elif content is not None:
        file.write_bytes(content)
    done = run(file.name, folder=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"id": np.ones((3, 1), np.int64)}, "array 'id' is no input; did you mean 'ids'"),
        ({"ids": np.ones((3, 1))}, "array 'ids' is float64, and the graph takes int64"),
        ({"ids": np.ones(3, np.int64)}, "the graph takes (time, batch)"),
        (None, "not an .npz file"),
    ],
)
def test_inputs_that_do_not_fit(arrays, said, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    if arrays is None:
        file.write_bytes(b"none")
    else:
        np.savez(file, **arrays)
    done = run(model, "--inputs", "x.npz", folder=tmp_path)
    assert done.returncode == 2
    assert "x.npz: " in done.stderr
    assert said in done.stderr


@pytest.mark.parametrize("name", ["candidate.json", "manifest.json", "config.json"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "cannot be read as JSON"),
        (b"\xff", "not UTF-8"),
        (b"[]", "not the description of a model"),
    ],
)
def test_a_damaged_description(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / name).write_bytes(content)
    done = run("model", folder=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"model/{name}: {said}" in line.replace(f"{name}:1:", f"{name}:")
    assert "copy the model again" in line


def test_a_bundle_that_was_changed(tagger: Candidate, make_bundle, tmp_path: Path) -> None:
    bundle = make_bundle(tagger)
    graph = next(bundle.rglob("*.onnx"))
    graph.write_bytes(graph.read_bytes()[:-1] + b"!")
    done = run(bundle, folder=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"{graph.name}: differs from its digest" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "unknown target 'pi4'"),
        ("- a\n", "targets.yaml:1: a fleet maps names to targets"),
        ("a: [1\n", "targets.yaml:2: not valid YAML"),
    ],
)
def test_a_fleet_that_is_none(text: str, said: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "targets.yaml").write_text(text)
    done = run(model, "--target", "pi4", folder=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert said in line
    assert "targets.yaml" in line


QUICK = [
    word
    for field in ("min_duration_ms=100", "warmup_ms=1", "max_warmup_ms=1", "min_count=12",
                  "cold_starts=1", "attempts=1")
    for word in ("--set-recipe", f"profile.{field}")
]  # fmt: skip


def test_more_threads_than_cores(model: Path, tmp_path: Path) -> None:
    few = run(model, *QUICK, "--threads", "1,999", "--json", folder=tmp_path)
    assert few.returncode == 0, few.stderr
    lines = [json.loads(line) for line in few.stdout.splitlines()]
    (many,) = [line for line in lines if line["slice"] == "threads:999"]
    assert many["value"] is None
    assert "999 threads have only" in many["invalid"]
    assert any(line["metric"] == "latency_p50" and line["value"] for line in lines)
    none = run(model, *QUICK, "--threads", "99999999999", folder=tmp_path)
    assert none.returncode == 1
    assert "local: 99999999999 threads have only" in none.stderr
    assert "name fewer threads" in none.stderr


def test_a_core_that_is_not_there(model: Path, tmp_path: Path) -> None:
    done = run(model, *QUICK, "--affinity", "4095", folder=tmp_path)
    assert done.returncode == 1
    assert "there is no core 4095" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_values_beyond_a_table(model: Path, tmp_path: Path) -> None:
    done = run(model, *QUICK, "--bound", "ids=500000", folder=tmp_path)
    assert done.returncode == 1
    assert "below the table's size (--bound NAME=N)" in " ".join(done.stderr.split())


def test_a_second_run_says_the_same(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", ids=np.ones((3, 1), np.int64))
    found = []
    for _ in range(2):
        done = run(model, *QUICK, "--inputs", "x.npz", "--json", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        found.append({(line["metric"], line["slice"]) for line in lines})
        sources = {line["conditions"].get("source") for line in lines if line["target"]}
        assert sources <= {"file", None}
        assert "file" in sources
    assert found[0] == found[1]


def test_a_board_where_nothing_listens(model: Path, tmp_path: Path) -> None:
    done = run(model, *QUICK, "--target", "ssh://nobody@127.0.0.1:1", folder=tmp_path)
    assert done.returncode == 1
    assert "nothing listens on port 1" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_sizes_beside_a_file_are_refused(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", ids=np.ones((3, 1), np.int64))
    done = run(model, "--inputs", "x.npz", "--size", "time=4", folder=tmp_path)
    assert done.returncode == 2
    assert "leave out sizes and bounds" in done.stderr


@pytest.mark.parametrize("whole_group", [True, False])
def test_ctrl_c_leaves_nothing_behind(whole_group: bool, model: Path, tmp_path: Path) -> None:
    """A terminal interrupts the whole group; a supervisor the command alone."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        [*COMMAND, str(model), "--min-duration", "10min"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "EDGECOMPRESS_STORE": str(tmp_path / "store"),
             "TMPDIR": str(temporary), "XDG_CACHE_HOME": str(tmp_path / "cache")},
    )  # fmt: skip
    try:
        agents: list[psutil.Process] = []
        deadline = time.monotonic() + 60
        while not agents and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
            agents = psutil.Process(process.pid).children(recursive=True)
        assert agents
        time.sleep(1)
        if whole_group:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    # Python ends by the signal itself where it met code that a library made of text; shells say 130
    # of both.
    assert process.returncode in (130, -signal.SIGINT), errors
    assert out == ""
    assert "interrupted" in errors
    _, alive = psutil.wait_procs(agents, timeout=10)
    assert not alive
    assert not list(temporary.glob("edgecompress-*"))
