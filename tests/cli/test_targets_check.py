"""``edgecompress check`` on several targets: short, without torch, without a connection."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

RECIPE = """
name: two
task: text-classification
teacher: {new: {}, finetune: {}}
data: {format: cldr}
stages: [export, quantize.dynamic]
targets: [local, pi4, emulated://cortex-a72]
"""


def run(folder: Path, *further: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "edgecompress", "check", "r.yaml", *further],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "XDG_CONFIG_HOME": str(folder)},
        check=False,
    )


def test_what_each_target_measures(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    (tmp_path / "targets.yaml").write_text("pi4: ssh://pi@raspberrypi.invalid\n")
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert "target local: measures latency, memory, energy, answers" in lines
    board = "target pi4 (ssh://pi@raspberrypi.invalid): measures latency, memory, energy, answers"
    at = lines.index(board)
    assert lines[at + 1] == "      cannot measure instructions"
    at = lines.index(
        "target emulated://cortex-a72: measures answers, instructions; asked 200 examples"
    )
    assert lines[at + 1].startswith("      cannot measure latency (latency_p50, ")
    names = (line.rpartition("|")[2].strip() for line in done.stderr.splitlines())
    loaded = {name.partition(".")[0] for name in names}
    assert not loaded & {"torch", "transformers", "onnxruntime"}


def test_a_limit_where_it_cannot_be_measured(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE.replace("pi4, ", ""))
    limit = "budget={latency_p50@emulated://cortex-a72: {max: 5ms}}"
    done = run(tmp_path, "--set", limit)
    assert done.returncode == 2
    assert "emulated://cortex-a72 cannot measure latency_p50" in done.stderr
