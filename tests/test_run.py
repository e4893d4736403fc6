"""A whole run on a tiny recipe, from the command line: directory, store, exit codes, kill -9."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from glob import glob
from pathlib import Path

import pytest
from commands import in_process

from edgecompress.bundle import verify_bundle
from edgecompress.report.document import from_json

RECIPE = """\
name: tiny
task: text-classification
teacher:
  new: {layers: 2, hidden_size: 32, heads: 2, intermediate_size: 64, vocabulary: 400}
  finetune: {epochs: 2, learning_rate: 3.0e-3, batch_size: 32}
data: {format: cldr, locales: [sw, fr, en], max_strings: 300, min_strings: 100}
seed: 3
stages:
  - any:
      - []
      - [prune.structured: {heads: 0.25, ffn: 0.5}, distil: {epochs: 1, batch_size: 32}]
  - export
  - quantize.dynamic
profile:
  {min_duration_ms: 100, warmup_ms: 10, max_warmup_ms: 50, min_count: 40, cold_starts: 0,
   attempts: 1}
budget:
  compression: {min: 1.5x}
  accuracy: {max_drop: 0.5}
minimize: size
"""


def edgecompress(*arguments: object, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgecompress", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **more,  # type: ignore[call-overload]
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "tiny.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="module")
def first(place: Path) -> subprocess.CompletedProcess[str]:
    done = edgecompress("run", place / "tiny.yaml", "-o", place / "out", "--store", place / "store")
    assert done.returncode == 0, done.stderr
    return done


def test_the_directory_holds_what_is_promised(place, first):
    out = place / "out"
    result = from_json((out / "results.json").read_text())
    assert result.winner == "prune.structured+distil+quantize.dynamic"
    assert {row.name for row in result.rows} >= {"teacher", "onnx-fp32", "onnx-fp32-tuned"}
    assert sorted(path.name for path in (out / "candidates").iterdir()) == [
        "prune.structured-distil-quantize.dynamic",
        "quantize.dynamic",
    ]
    verify_bundle(out / "bundle")
    assert "<html" in (out / "report.html").read_text()
    assert "|" in (out / "report.md").read_text()
    winner = next(row for row in result.rows if row.name == result.winner)
    assert [step.stage for step in winner.steps] == [
        "teacher", "finetune", "prune.structured", "distil", "export", "quantize.dynamic",
    ]  # fmt: skip
    assert [entry["stage"] for entry in winner.stages][-1] == "quantize.dynamic"
    splits = {m.split for m in winner.measurements if m.metric == "accuracy"}
    assert splits == {"validation", "test"}
    drop = next(m for m in winner.measurements if m.metric == "accuracy_drop" and m.split == "test")
    assert drop.interval is not None
    assert drop.interval[0] <= drop.value <= drop.interval[1]


def test_what_is_said_at_the_end(place, first):
    assert "edgecompress predict" in first.stdout
    assert "report.html" in first.stdout


def test_the_bundle_answers(place, first):
    done = edgecompress("predict", place / "out" / "bundle", "Jamhuri ya Kenya", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["label"] in {"sw", "fr", "en"}


def test_the_page_shows_answers_and_the_bundle_holds_no_text_of_the_data(place, first):
    out = place / "out"
    result = from_json((out / "results.json").read_text())
    assert set(result.answers["rows"]) == {"teacher", result.winner}
    assert result.answers["split"] == "test"
    counted = sum(map(sum, result.answers["rows"]["teacher"]))
    assert counted == result.data["splits"]["test"]
    hits = sum(line[n] for n, line in enumerate(result.answers["rows"][result.winner]))
    row = next(row for row in result.rows if row.name == result.winner)
    accuracy = next(
        m for m in row.measurements if (m.metric, m.split, m.slice) == ("accuracy", "test", None)
    )
    assert hits / counted == pytest.approx(accuracy.value)
    assert result.started.endswith("+00:00")
    assert result.seconds > 0
    page = (out / "report.html").read_text()
    assert len(page.encode()) < 500_000
    assert "No example of the test split is shown" in page
    given_away = (out / "bundle" / "evidence" / "report.html").read_text()
    assert "Answers that changed" not in given_away
    assert "What it takes for what" in given_away
    times = next(m for m in row.measurements if m.metric == "latency_p50" and m.slice is None)
    assert sum(count for _, count in times.conditions["distribution"]) == times.samples


def test_the_same_command_again_makes_nothing_new(place, first):
    results = place / "store" / "results"
    before = {path.name for path in results.glob("*/*")}
    done = in_process("run", place / "tiny.yaml", "-o", place / "again", "--store", place / "store")
    assert done.returncode == 0, done.stderr
    stages = [line for line in done.stderr.splitlines() if "quantize.dynamic" in line]
    assert any("from the store" in line for line in stages)
    assert "finetune" in done.stderr
    one = from_json((place / "out" / "results.json").read_text())
    two = from_json((place / "again" / "results.json").read_text())
    assert one.winner == two.winner
    first_rows = {row.name: row.steps for row in one.rows}
    assert first_rows == {row.name: row.steps for row in two.rows}
    # Only measurements that were invalid may have been taken again.
    made = {path.name for path in results.glob("*/*")} - before
    for key in made:
        names = {path.name for path in (results / key[:2] / key).iterdir()}
        assert "candidate.json" not in names


def test_a_budget_that_nothing_meets_ends_with_3_and_a_full_report(place, first):
    done = in_process(
        "run", place / "tiny.yaml", "-o", place / "strict", "--store", place / "store",
        "--set", "budget.compression.min=1000",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    result = from_json((place / "strict" / "results.json").read_text())
    assert result.winner is None
    assert "nearest is" in result.verdict.reason
    assert not (place / "strict" / "bundle").exists()
    assert (place / "strict" / "report.html").exists()


def test_a_failed_chain_is_a_row_and_the_others_go_on(place, first):
    done = in_process(
        "run", place / "tiny.yaml", "-o", place / "broken", "--store", place / "store",
        "--set", "stages=[{any: [export, {export: {tolerance: 1.0e-30}}]}, quantize.dynamic]",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = from_json((place / "broken" / "results.json").read_text())
    failed = [row for row in result.rows if row.error]
    assert len(failed) == 1
    assert "PyTorch" in str(failed[0].error) or "differ" in str(failed[0].error)
    assert result.winner is not None
    assert list((place / "broken" / "failures").iterdir())


def test_killed_in_training_it_goes_on_from_the_last_epoch(place, first, tmp_path):
    """Kill -9 in the middle of a long fine-tuning; the second try must not start from nothing."""
    store = tmp_path / "store"
    words = [
        "run", str(place / "tiny.yaml"), "-o", str(tmp_path / "out"), "--store", str(store),
        "--set", "teacher.finetune.epochs=3", "--set", "stages=[export, quantize.dynamic]",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "edgecompress", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    limit = time.monotonic() + 240
    # Unfinished ones are called .epoch-*. Path.glob fails where a folder goes while it looks.
    while not glob(f"{store}/scratch/*/epoch-*"):  # noqa: PTH207
        assert time.monotonic() < limit
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert list(store.glob("scratch/*/epoch-*/state.json"))
    done = in_process(*words)
    assert done.returncode == 0, done.stderr
    assert not list((store / "aside").iterdir())
    assert not list((store / "scratch").iterdir())


def test_ctrl_c_is_one_sentence_and_nothing_half_written(place, tmp_path):
    store = tmp_path / "store"
    command = [
        sys.executable, "-m", "edgecompress", "run", str(place / "tiny.yaml"),
        "-o", str(tmp_path / "out"), "--store", str(store), "--set", "teacher.finetune.epochs=50",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 240
    while not glob(f"{store}/scratch/*/epoch-*"):  # noqa: PTH207 - Path.glob fails in a race
        assert time.monotonic() < limit
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from there" in said
    assert "Traceback" not in said
    assert not list((store / "aside").iterdir())
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_one_sentence(place, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", small], check=True)
    try:
        done = edgecompress(
            "run", place / "tiny.yaml", "-o", tmp_path / "o", "--store", small / "s"
        )
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert "--store" in done.stderr
        assert "Traceback" not in done.stderr
        assert not list((small / "s" / "aside").iterdir())
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["run", "nosuch.yaml", "-o", "x"], 2, "no such file"),
        (["run", "tiny.yaml", "-o", "full"], 1, "not empty"),
        (["run", "tiny.yaml", "-o", "file/below"], 1, "cannot be written"),
        (["run", "tiny.yaml", "-o", "x", "--set", "sed=1"], 2, "did you mean 'seed'"),
        (["run", "tiny.yaml", "-o", "x", "--set", "data.locales=[sw, xx]"], 2, "xx"),
        (["check", "tiny.yaml", "--set", "targets=[loca]"], 2, "loca"),
        (["quantize", "nosuch.onnx", "-o", "x"], 2, "no such model"),
        (["stages", "prune.structurd"], 2, "did you mean 'prune.structured'"),
        (["nosuch"], 2, "there is no command"),
        (["run", "tiny.yaml"], 2, "--output"),
    ],
)
def test_wrong_input_is_one_sentence(place, arguments, code, says):
    (place / "full").mkdir(exist_ok=True)
    (place / "full" / "mine.txt").write_text("keep")
    (place / "file").write_text("")
    done = in_process(*arguments, cwd=place)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert (place / "full" / "mine.txt").read_text() == "keep"
    assert not (place / "x").exists() or not any(
        path.suffix in {".json", ".html"} for path in (place / "x").iterdir()
    )


def test_check_says_what_would_run(place):
    done = edgecompress("check", place / "tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert "2 candidates from 6 stage runs" in done.stdout
    assert "prune.structured+distil+quantize.dynamic" in done.stdout
    assert "target local: measures" in done.stdout


def test_single_stages_are_one_stage_recipes(place, first, tmp_path):
    """prune → distil → export → quantize → evaluate → profile, each as a command of its own."""
    store = ("--store", place / "store")
    like = ("--recipe", place / "tiny.yaml", *store)
    # The teacher of the run, as a Hugging Face directory.
    teacher = tmp_path / "teacher"
    done = in_process("finetune", _raw_teacher(place, tmp_path), "-o", tmp_path / "tuned", *like,
                        "--set", "epochs=1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    shutil.copytree(tmp_path / "tuned" / "model", teacher)
    shutil.copytree(tmp_path / "tuned" / "preprocessor", teacher, dirs_exist_ok=True)
    steps = [
        ("prune", teacher, "pruned", ["--set", "ffn=0.5", "--set", "heads=0"]),
        ("distil", tmp_path / "pruned", "student", ["--teacher", teacher, "--set", "epochs=1"]),
        ("export", tmp_path / "student", "onnx", []),
        ("quantize", tmp_path / "onnx", "int8", ["--scheme", "dynamic"]),
    ]
    for command, model, output, more in steps:
        done = in_process(command, model, "-o", tmp_path / output, *like, *more)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        # Of so small a model the graph is larger than the weights alone.
        assert ("larger" if command == "export" else "smaller") in done.stdout
    done = in_process("quantize", tmp_path / "onnx" / "model" / "model.onnx", *store,
                        "-o", tmp_path / "alone.onnx")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "alone.onnx").stat().st_size > 1000
    done = in_process("evaluate", tmp_path / "int8", *like, "--split", "test", "--json")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert any(m["metric"] == "accuracy" and m["split"] == "test" for m in found)
    done = in_process("profile", tmp_path / "alone.onnx", *store, "--json",
                        "--set-recipe", "profile.min_duration_ms=50",
                        "--set-recipe", "profile.min_count=30")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "latency_p50" in done.stdout


def _raw_teacher(place: Path, folder: Path) -> Path:
    """The run's new teacher before training, found in the store."""
    for file in (place / "store" / "results").glob("*/*/candidate.json"):
        document = json.loads(file.read_text())
        if [step["stage"] for step in document["steps"]] == ["teacher"]:
            target = folder / "raw"
            shutil.copytree(file.parent / "model", target)
            shutil.copytree(file.parent / "preprocessor", target, dirs_exist_ok=True)
            return target
    raise AssertionError("no teacher in the store")
