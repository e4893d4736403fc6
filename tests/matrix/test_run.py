"""Running a matrix: every cell once, on after a kill, and a failure that stays its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgecompress.cli.main import cli
from edgecompress.engine.matrix import read_matrix
from edgecompress.engine.matrix.run import exit_code, look, run_matrix
from edgecompress.engine.preflight import shared_work
from edgecompress.errors import EdgeCompressError


class Recording:
    """A reporter that remembers what ended how, below each section, and may stop the run."""

    def __init__(self, stop_at: str = "") -> None:
        self.stop_at = stop_at
        self.planned: Sequence[str] = ()
        self.sections: list[str] = []
        self.ended: list[tuple[str, str, str]] = []
        self.title = ""

    def plan(self, sections: Sequence[str]) -> None:
        self.planned = sections

    def section(self, title: str) -> None:
        if self.stop_at and title.startswith(self.stop_at):
            raise KeyboardInterrupt
        self.sections.append(title)

    def begin(self, title: str) -> None:
        self.title = title

    def advance(self, done: float, total: float, what: str = "") -> None:
        """Nothing."""

    def end(self, note: str) -> None:
        self.ended.append((self.sections[-1] if self.sections else "", self.title, note))


def test_killed_it_goes_on_and_makes_no_finished_cell_again(cheap: Path) -> None:
    """Kill -9 in the second cell; then a part, then the rest, in the same folder."""
    out, store = cheap / "out", cheap / "store"
    command = [
        sys.executable, "-m", "edgecompress", "run", str(cheap / "cheap.yaml"),
        "-o", str(out), "--store", str(store),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    limit = time.monotonic() + 600  # timing waits for its turn where others time, too
    try:
        while not (out / "one-2" / "cell.json").exists():
            assert time.monotonic() < limit
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    first = (out / "one-1" / "results.json").stat().st_mtime_ns
    matrix = read_matrix(cheap / "cheap.yaml")
    assert matrix is not None
    states = [cell.state for cell in look(matrix, out).cells]
    assert states == ["finished", "waiting", "waiting", "waiting"]

    listed = CliRunner().invoke(cli, ["run", str(cheap / "cheap.yaml"), "-o", str(out), "--cells"])
    assert listed.exit_code == 0, listed.output
    assert "one-1  finished" in listed.output
    assert "1 of 4 cells finished, 3 not yet" in listed.output

    said = Recording()
    found = run_matrix(matrix, out, only=["language=one"], store=store, reporter=said)
    assert {title.split(":")[0] for title in said.sections} == {"one-2"}
    assert len(said.planned) == len(said.sections)
    assert [cell.state for cell in found.cells] == ["finished", "finished", "waiting", "waiting"]
    assert (out / "one-1" / "results.json").stat().st_mtime_ns == first

    found = run_matrix(matrix, out, store=store)
    assert [cell.state for cell in found.cells] == ["finished"] * 4
    assert exit_code(found) == 0
    assert (out / "one-1" / "results.json").stat().st_mtime_ns == first
    document = json.loads((out / "matrix.json").read_text())
    assert [group["name"] for group in document["groups"]] == ["one", "two"]
    assert all(cell["seconds"] > 0 and cell["cpu_seconds"] > 0 for cell in document["cells"])
    line = next(one for one in document["groups"][0]["lines"] if one["kind"] == "candidate")
    assert line["scheme"] == "dynamic"
    assert line["readings"]["size"]["count"] == 2
    assert (out / "two-1" / "bundle" / "manifest.json").exists()
    assert not (out / "two-1" / "candidates").exists()

    # Another model for one language: its cells are made again, and only those.
    (cheap / "two.onnx").write_bytes((cheap / "two.onnx").read_bytes() + b"\x72\x00")
    assert [cell.state for cell in look(matrix, out).cells] == ["finished"] * 2 + ["waiting"] * 2


def test_a_cell_that_fails_says_why_and_the_others_go_on(cheap: Path) -> None:
    (cheap / "one.onnx").write_bytes(b"no graph")
    arguments = ["run", str(cheap / "cheap.yaml"), "-o", str(cheap / "out"), "--set",
                 "matrix.seed=[1]", "--store", str(cheap / "store")]  # fmt: skip
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 1, done.output
    assert "one-1 failed" in done.output
    text = (cheap / "out" / "matrix.md").read_text()
    assert "1 of 2 cells finished, 1 failed" in text
    assert "one-1" in text.partition("## Cells that failed")[2]
    assert "Traceback" in (cheap / "out" / "one-1" / "failure.txt").read_text()
    # Repaired, the same command makes only what failed.
    (cheap / "one.onnx").write_bytes((cheap / "two.onnx").read_bytes())
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert "two-1:" not in done.output
    assert not (cheap / "out" / "one-1" / "failure.txt").exists()


def test_cells_share_what_does_not_differ_and_an_interrupt_keeps_what_is_done(cheap: Path) -> None:
    settings = ("matrix.language=[one]", "matrix.seed=[1]", "matrix.licence=[MIT, Apache-2.0]")
    matrix = read_matrix(cheap / "cheap.yaml", settings)
    assert matrix is not None
    assert shared_work([cell.recipe for cell in matrix.cells]) == (2, 1)
    out, store = cheap / "out", cheap / "store"
    with pytest.raises(KeyboardInterrupt):
        run_matrix(matrix, out, store=store, reporter=Recording("one-1-Apache-2.0: quantize"))
    found = json.loads((out / "matrix.json").read_text())
    assert [cell["state"] for cell in found["cells"]] == ["finished", "waiting"]
    said = Recording()
    run_matrix(matrix, out, store=store, reporter=said)
    made = [(section, note) for section, title, note in said.ended if "quantize" in title]
    assert ("one-1-Apache-2.0: quantize.dynamic", "from the store") in made
    assert not any(section.startswith("one-1-MIT") for section, _ in made)


def test_what_a_model_does_not_allow_is_shown_with_the_reason(cheap: Path) -> None:
    """An ONNX file has no weights to prune: refused, or told by `check` and shown by the page."""
    stages = "{any: [[], [prune.magnitude: {sparsity: {each: [0.5, 0.9]}}]]}"
    stored = "{any: [quantize.dynamic, quantize.half]}"
    part = ["--set", "matrix.seed=[1]", "--set", "matrix.language=[one]",
            "--set", f"stages=[{stages}, {stored}]"]  # fmt: skip
    show = ("--set", "impossible=show")
    file, out = str(cheap / "cheap.yaml"), cheap / "out"
    reason = "prune.magnitude cannot work on an ONNX model"

    refused = CliRunner().invoke(cli, ["run", file, *part, "-o", str(out)], standalone_mode=False)
    assert reason in str(refused.exception) and not out.exists()
    checked = CliRunner().invoke(cli, ["check", file, *part, *show])
    assert f"one-1: 4 candidates cannot be: {reason}" in checked.output, checked.output

    store = ("--store", str(cheap / "store"))
    done = CliRunner().invoke(cli, ["run", file, *part, *show, "-o", str(out), *store])
    assert done.exit_code == 0, done.output
    rows = json.loads((out / "one-1" / "results.json").read_text())["rows"]
    assert [row["tried"] for row in rows if row["kind"] == "candidate"] == [True] * 2 + [False] * 4
    assert all(reason in row["error"] for row in rows if not row["tried"])
    said = (out / "matrix.md").read_text()
    assert said.count("left out") == 2 + 1 and said.count(reason) == 1  # one line for each share

    nothing = ["--set", "stages=[prune.magnitude: {sparsity: 0.5}, quantize.dynamic]"]
    refused = CliRunner().invoke(cli, ["check", file, *nothing, *show], standalone_mode=False)
    assert "no chain can work on this model" in str(refused.exception)


def test_wrong_data_is_found_before_any_cell_runs(place: Path) -> None:
    (place / "two" / "dev.txt").unlink()
    matrix = read_matrix(place / "mini.yaml")
    assert matrix is not None
    with pytest.raises(EdgeCompressError, match=r"cell two-1"):
        run_matrix(matrix, place / "out", store=place / "store")
    assert not (place / "out" / "one-1").exists()


def test_check_says_how_much_it_is(place: Path) -> None:
    done = CliRunner().invoke(cli, ["check", str(place / "mini.yaml")])
    assert done.exit_code == 0, done.output
    assert "4 cells of 1 candidates, 4 in all" in done.output
    assert "axis language: one, two" in done.output
    assert "the first cell, one-1:" in done.output


@pytest.mark.parametrize("option", [["--only", "language=one"], ["--cells"]])
def test_options_of_a_matrix_need_one(place: Path, option: list[str]) -> None:
    file = place / "plain.yaml"
    file.write_text("name: plain\n")
    arguments = ["run", str(file), "-o", str(place / "out"), *option]
    done = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert "is for a recipe with a matrix" in str(done.exception)
