"""``edgecompress profile``: what is wrong is said in one line, and Ctrl-C leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from foreign_models import lstm

COMMAND = [sys.executable, "-m", "edgecompress", "profile"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lstm(tmp_path_factory.mktemp("models") / "lstm.onnx")


def run(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120, cwd=folder,
        env={**os.environ, "EDGECOMPRESS_STORE": str(folder / "store"), "COLUMNS": "80"},
    )  # fmt: skip


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
        (["--thread", "2"], "No such option"),
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
             "TMPDIR": str(temporary)},
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
    assert process.returncode == 130, errors
    assert out == ""
    assert "interrupted" in errors
    _, alive = psutil.wait_procs(agents, timeout=10)
    assert not alive
    assert not list(temporary.glob("edgecompress-*"))
