"""Running a matrix: every cell once, on after a kill, and a failure that stays its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgecompress.cli.main import cli
from edgecompress.errors import EdgeCompressError
from edgecompress.matrix import read_matrix
from edgecompress.matrix.run import exit_code, look, run_matrix
from edgecompress.preflight import shared_work


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

    def advance(self, done: float, total: float, what: str) -> None:
        """Nothing."""

    def end(self, note: str) -> None:
        self.ended.append((self.sections[-1] if self.sections else "", self.title, note))


def test_killed_it_goes_on_and_makes_no_finished_cell_again(place: Path) -> None:
    """Kill -9 in the second cell; then a part, then the rest, in the same folder."""
    out, store = place / "out", place / "store"
    command = [
        sys.executable, "-m", "edgecompress", "run", str(place / "mini.yaml"),
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
    matrix = read_matrix(place / "mini.yaml")
    assert matrix is not None
    states = [cell.state for cell in look(matrix, out).cells]
    assert states == ["finished", "waiting", "waiting", "waiting"]

    listed = CliRunner().invoke(cli, ["run", str(place / "mini.yaml"), "-o", str(out), "--cells"])
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
    assert line["readings"]["score"]["count"] == 2
    assert (out / "two-1" / "bundle" / "manifest.json").exists()
    assert not (out / "two-1" / "candidates").exists()

    # Other data of one language: its cells are made again, and only those.
    text = (place / "two" / "test.txt").read_text()
    (place / "two" / "test.txt").write_text(f"{text}\n{text}")
    assert [cell.state for cell in look(matrix, out).cells] == ["finished"] * 2 + ["waiting"] * 2


def test_a_cell_that_fails_says_why_and_the_others_go_on(place: Path) -> None:
    shutil.rmtree(place / "model-one")
    (place / "model-one").mkdir()
    (place / "model-one" / "config.json").write_text("{}")
    arguments = ["run", str(place / "mini.yaml"), "-o", str(place / "out"), "--set",
                 "matrix.seed=[1]", "--store", str(place / "store")]  # fmt: skip
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 1, done.output
    assert "one-1 failed" in done.output
    text = (place / "out" / "matrix.md").read_text()
    assert "1 of 2 cells finished, 1 failed" in text
    assert "no configuration that can be read" in text
    assert "Traceback" in (place / "out" / "one-1" / "failure.txt").read_text()
    # Repaired, the same command makes only what failed.
    shutil.rmtree(place / "model-one")
    shutil.copytree(place / "model-two", place / "model-one")
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert "two-1:" not in done.output
    assert not (place / "out" / "one-1" / "failure.txt").exists()


def test_cells_share_what_does_not_differ_and_an_interrupt_keeps_what_is_done(place: Path) -> None:
    settings = ("matrix.language=[one]", "matrix.seed=[1]", "matrix.ffn=[0.25, 0.5]")
    matrix = read_matrix(place / "mini.yaml", settings)
    assert matrix is not None
    # Teacher and seed are the same; pruning and export of two widths are not.
    assert shared_work([cell.recipe for cell in matrix.cells]) == (4, 4)
    out, store = place / "out", place / "store"
    with pytest.raises(KeyboardInterrupt):
        run_matrix(matrix, out, store=store, reporter=Recording("one-1-0.5: prune"))
    found = json.loads((out / "matrix.json").read_text())
    assert [cell["state"] for cell in found["cells"]] == ["finished", "waiting"]
    said = Recording()
    run_matrix(matrix, out, store=store, reporter=said)
    references = [entry for entry in said.ended if "teacher and references" in entry[0]]
    assert ("export", "from the store") in [entry[1:] for entry in references]
    built = [note for _, title, note in said.ended if title.startswith("prune.structured")]
    assert built[0] != "from the store"


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
