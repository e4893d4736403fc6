"""Commands of one stage need the examples that they read, and no others; what they lack is said."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import in_process

from edgecompress.values import Candidate

ROWS = "text,label\nsannu ina kwana,hau\nhabari ya asubuhi,swa\nina kwana,hau\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Write a file of examples."""
    (tmp_path / "some.csv").write_text(ROWS, encoding="utf-8")
    return tmp_path / "some.csv"


def store(folder: Path) -> list[object]:
    return ["--store", folder / "store"]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_model_is_evaluated_on_the_one_split_that_is_given(
    classifier: Candidate, make_bundle: Callable[..., Path], file: Path, split: str
) -> None:
    where = make_bundle(classifier)
    given = [f"--{split}", file, "--split", split, *store(file.parent)]
    done = in_process("evaluate", where, *given)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--train", "some.csv"], "this needs validation examples, and there are none; give "
         "--validation FILE"),
        (["--validation", "some.csv", "--split", "test"], "give --test FILE"),
        ([], "there are no examples to ask; give --validation FILE, or --recipe RECIPE"),
    ],
)  # fmt: skip
def test_examples_that_are_not_there_are_named_by_their_option(
    classifier: Candidate,
    make_bundle: Callable[..., Path],
    file: Path,
    options: list[str],
    said: str,
) -> None:
    where = make_bundle(classifier)
    done = in_process("evaluate", where, *options, *store(file.parent), cwd=file.parent)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("quantize model -o x", "make an ONNX model of it first by `edgecompress export`"),
        ("factorize model -o x --set embedding=16",
         "give --train FILE and --validation FILE, or --recipe RECIPE"),
        ("quantize m.onnx -o x --scheme static", "or --recipe RECIPE, or --data PATH"),
        ("prune m.onnx -o x --set heads=0.5", "which is what it gets here; give the PyTorch model"),
        ("prune model -o x --method layers --train some.csv", "give --set keep=VALUE"),
    ],
)  # fmt: skip
def test_what_a_stage_lacks_is_said_in_words_of_the_command_line(
    file: Path, arguments: str, said: str
) -> None:
    (file.parent / "m.onnx").write_bytes(b"")
    (file.parent / "model").mkdir()
    (file.parent / "model" / "config.json").write_text("{}", encoding="utf-8")
    done = in_process(*arguments.split(), *store(file.parent), cwd=file.parent)
    assert done.returncode == 2
    assert said in done.stderr, done.stderr
    assert done.stderr.count("quantize.static") + done.stderr.count("quantize.dynamic") <= 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("check quickstrat", "quickstrat: there is no such file; did you mean 'quickstart'?"),
        ("run mien.yaml -o x", "mien.yaml: there is no such file; did you mean 'mine.yaml'?"),
        ("check below/mien.yml", "there is no such file; did you mean 'below/mine.yml'?"),
        ("export empty -o x", "empty: this folder holds no model"),
        ("evaluate empty --validation some.csv", "empty: this folder holds no model"),
        ("quantize nowhere -o x", "there is no such model here; quantize.dynamic takes an ONNX"),
        ("evaluate modle --validation some.csv", "did you mean 'model'?"),
        ("evaluate m.onnx --validation some.csv", "m.onnx: a graph alone answers no examples"),
        ("evaluate model --validation some", "some: its name does not say what it is; give "
         "--format, which is one of cldr, coco, conll, csv,"),
        ("trim model -o x --keep many", "'many' is not a valid whole number"),
        ("serve model --port web", "'web' is not a valid whole number"),
    ],
)  # fmt: skip
def test_wrong_places_are_said_as_what_they_are(file: Path, arguments: str, said: str) -> None:
    onnx_model = small_graph()
    (file.parent / "m.onnx").write_bytes(onnx_model)
    for name in ("model", "empty", "below"):
        (file.parent / name).mkdir()
    (file.parent / "model" / "config.json").write_text("{}", encoding="utf-8")
    for name in ("mine.yaml", "below/mine.yml", "some"):
        (file.parent / name).write_text("name: mine\n", encoding="utf-8")
    store_at = str(file.parent / "s")
    done = in_process(*arguments.split(), cwd=file.parent, EDGECOMPRESS_STORE=store_at)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split()), done.stderr


def small_graph() -> bytes:
    """Make an ONNX model that gives back what it is given."""
    from onnx import TensorProto, helper

    shape = ["batch", 2]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
    opset = [helper.make_opsetid("", 17)]
    made: bytes = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    return made


def run(folder: Path, arguments: str, **given: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **given.pop("env", {})}
    command = f"{shlex.quote(sys.executable)} -m edgecompress {arguments}"
    return subprocess.run(
        ["/bin/bash", "-c", command],
        cwd=folder, env=environment, capture_output=True, text=True, **given,
    )  # fmt: skip


def test_a_terminal_that_lacks_a_sign_gets_the_help_all_the_same(tmp_path: Path) -> None:
    latin = {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    done = run(tmp_path, "serve --help", env=latin)
    assert done.returncode == 0, done.stderr
    assert r"\u2026" in done.stdout


def test_a_full_standard_output_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, "--help > /dev/full")
    assert done.returncode == 1
    assert "standard output: No space left on device" in done.stderr


def test_a_working_directory_that_is_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    python = f"{shlex.quote(sys.executable)} -P -m edgecompress check quickstart"
    script = f"cd gone && rmdir ../gone && {python}"
    done = subprocess.run(["/bin/bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "the working directory has been removed" in done.stderr
