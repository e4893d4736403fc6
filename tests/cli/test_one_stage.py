"""Commands of one stage need the examples that they read, and no others; what they lack is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
        ("quantize org/model -o x", "make an ONNX model of it first by `edgecompress export`"),
        ("factorize org/model -o x --set embedding=16",
         "give --train FILE and --validation FILE, or --recipe RECIPE"),
        ("quantize m.onnx -o x --scheme static", "or --recipe RECIPE, or --data PATH"),
        ("prune m.onnx -o x --set heads=0.5", "which is what it gets here; give the PyTorch model"),
        ("prune m -o x --method layers --train some.csv", "give --set keep=VALUE"),
    ],
)  # fmt: skip
def test_what_a_stage_lacks_is_said_in_words_of_the_command_line(
    file: Path, arguments: str, said: str
) -> None:
    (file.parent / "m.onnx").write_bytes(b"")
    done = in_process(*arguments.split(), *store(file.parent), cwd=file.parent)
    assert done.returncode == 2
    assert said in done.stderr, done.stderr
    assert done.stderr.count("quantize.static") + done.stderr.count("quantize.dynamic") <= 1
