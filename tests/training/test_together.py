"""Several processes train one model: really launched, on CPUs; and the pieces of that alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from launched_training import apply_all

from edgecompress.launched import process_count, process_rank
from edgecompress.training.together import ALONE, Team

TESTS = Path(__file__).parents[1]


def launch(*arguments):
    """Run a Python file or module in two processes, as `accelerate launch` does on CPUs."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    command += ["--dynamo_backend", "no", "--main_process_port", "0", *map(str, arguments)]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
    }
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_two_processes_train_what_one_does(tmp_path):
    done = launch(TESTS / "launched_training.py", tmp_path / "two", tmp_path / "two.json")
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):  # a thread that is left can take the process down while Python ends
        assert json.loads((tmp_path / f"two.threads{rank}").read_text()) == []
    two = json.loads((tmp_path / "two.json").read_text())
    one = apply_all(tmp_path / "one")
    assert set(one) == set(two)
    for name in ("finetune", "distil", "afterwards"):
        assert two[name]["losses"] == pytest.approx(one[name]["losses"], rel=0.02)
        assert two[name]["scores"] == pytest.approx(one[name]["scores"], abs=0.1)
    for found in (one, two):  # the same message, and what came after it went on
        assert "diverged" in found["diverging"]["error"]
        assert found["diverging"]["kind"] == "AgreedError"
    kept = two["pruning"]["gradual"]
    assert [len(layer) for layer in kept["heads"]] != kept["heads_before"]
    assert sum(kept["neurons"]) == sum(one["pruning"]["gradual"]["neurons"])
    # The teacher answered once, asked by the main process.
    kinds = [p.name for p in (tmp_path / "two" / "store" / "results").glob("*/*/*.f16")]
    assert sorted(kinds) == sorted(
        p.name for p in (tmp_path / "one" / "store" / "results").glob("*/*/*.f16")
    )


def test_one_of_several_processes_runs_the_command(tmp_path):
    done = launch("-m", "edgecompress", "finetune", tmp_path / "none.onnx", "-o", tmp_path / "o")
    assert done.returncode == 1
    assert done.stderr.count("there is no such model") == 1


def test_what_launchers_say(monkeypatch):
    assert (process_count(), process_rank()) == (1, 0)
    monkeypatch.setenv("RANK", "1")
    assert process_rank() == 0  # a rank of some other system: nobody launched several
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert (process_count(), process_rank()) == (4, 1)
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.delenv("RANK")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "3")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "2")
    assert (process_count(), process_rank()) == (3, 2)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_row_of_a_batch_is_shared_out_once(count):
    for size in (1, 2, 5, 16):
        rows = np.arange(100, 100 + size)
        shares = [Team(rank, count).share(rows) for rank in range(count)]
        counted = np.concatenate([mine for mine, weight in shares if weight])
        assert sorted(counted.tolist()) == rows.tolist()
        assert sum(weight for _, weight in shares) == pytest.approx(1)
        assert all(len(mine) for mine, _ in shares)


def test_alone_nothing_is_exchanged():
    weight = torch.nn.Parameter(torch.ones(3))
    loss = (weight * 2).sum()
    loss.backward()
    assert float(ALONE.sum_gradients([weight], 1.0, loss)) == 6.0
    assert weight.grad.tolist() == [2.0, 2.0, 2.0]
    assert ALONE.meet("here", 5) == [5]
