"""``edgecompress trim``: what it writes and says, and its exit codes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import tagged_examples, tiny_teacher

from edgecompress.cli.main import main
from edgecompress.texts import tags_of, words_of
from edgecompress.values import Candidate


def conll(file: Path, count: int, seed: int) -> Path:
    lines = []
    for example in tagged_examples(count, seed):
        lines += [
            f"{word} {tag}" for word, tag in zip(words_of(example), tags_of(example), strict=True)
        ]
        lines.append("")
    file.write_text("\n".join(lines))
    return file


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as transformers saves one."""
    path = tmp_path_factory.mktemp("teacher")
    made = tiny_teacher(path / "made", tagged_examples(200, 1), "token-classification")
    shutil.copytree(made.model.directory, path / "model")
    shutil.copytree(made.preprocessor, path / "model", dirs_exist_ok=True)
    return path / "model"


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return int(stopped.value.code or 0)


def test_trim_from_a_file_of_text(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = conll(tmp_path / "train.txt", 3, 4)
    dev = conll(tmp_path / "dev.txt", 20, 2)
    out = tmp_path / "small"
    arguments = ["trim", str(teacher), "-o", str(out), "--store", str(tmp_path / "store")]
    data = ["--format", "conll", "--train", str(file), "--validation", str(dev)]
    data += ["--test", str(conll(tmp_path / "test.txt", 5, 3))]
    assert run([*arguments, *data, "--corpus", f"conll:{file}", "--alphabet", "corpus"]) == 0
    said = capsys.readouterr().out
    decided = Candidate.load(out).steps[-1].decisions
    old, new = decided["pieces"]
    assert f"pieces: {old} → {new}" in said
    assert "corpus: " in said
    assert "held-out text: " in said
    assert f"{decided['held_out']['words_split_otherwise']:.2%} of the words" in said
    assert "× smaller)" in said


def test_too_small_and_missing(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = conll(tmp_path / "train.txt", 3, 4)
    arguments = ["trim", str(teacher), "--store", str(tmp_path / "store"), "-o"]
    assert run([*arguments, str(tmp_path / "a"), "--keep", "3", "--corpus", str(file)]) == 1
    assert "pieces are needed so that any text can be split" in capsys.readouterr().err
    assert run([*arguments, str(tmp_path / "b"), "--corpus", str(tmp_path / "none.txt")]) == 2
    assert "the file is missing" in capsys.readouterr().err
    assert run([*arguments, str(tmp_path / "c")]) == 2
    assert "there are no training examples" in capsys.readouterr().err
    assert not [path for path in tmp_path.iterdir() if path.name in "abc"]


def test_shared_rows(teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = conll(tmp_path / "train.txt", 3, 4)
    arguments = ["trim", str(teacher), "--store", str(tmp_path / "store"), "--rows", "20"]
    out = tmp_path / "small"
    assert run([*arguments, "--corpus", f"conll:{file}", "-o", str(out)]) == 0
    assert "→ 20; the tokenizer is as it was" in capsys.readouterr().out
    assert Candidate.load(out).steps[-1].stage == "vocabulary.share"
    assert run([*arguments, "--keep", "9", "-o", str(tmp_path / "b")]) == 2
    assert "--rows keeps all pieces" in capsys.readouterr().err


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from edgecompress.cli.main import cli; "
        "cli.main(['trim', '--help'], standalone_mode=False); "
        "assert not {'torch', 'transformers', 'tokenizers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
