"""What all formats share: discovery, splits, sources, digests and the check of labels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from edgecompress.data import check_labels, data_class, data_config, data_formats
from edgecompress.data.files import sources
from edgecompress.errors import DataError
from edgecompress.texts import words_example


def files(root: Path, **contents: str) -> dict[str, object]:
    for name, text in contents.items():
        (root / f"{name}.txt").write_text(text, encoding="utf-8")
    return {"format": "conll", "root": str(root)} | {n: [f"{n}.txt"] for n in contents}


def test_formats_are_found_by_their_file() -> None:
    ours = ["cldr", "coco", "conll", "csv", "datasets", "digits", "images", "jsonl", "parquet"]
    ours += ["sounds", "squad", "text", "tsv", "voc", "yolo"]
    assert list(data_formats()) == ours
    assert data_class("tsv").__name__ == "TsvData"
    with pytest.raises(DataError, match=r"'connl'; did you mean 'conll'\?"):
        data_config({"format": "connl"})
    with pytest.raises(DataError, match="there are cldr, coco, conll, csv, datasets, digits"):
        data_config({"format": 7})
    with pytest.raises(DataError, match="data needs a format"):
        data_config({})


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError, match="trian"):
        data_config({"format": "conll", "trian": ["a.txt"]})


def test_round_trip_through_json() -> None:
    config = data_config({"format": "tsv", "root": "d", "train": "a.tsv", "test": ["b.tsv"]})
    assert data_config(config.model_dump(mode="json")) == config
    schema = data_class("tsv").model_json_schema()["properties"]["train"]
    assert {kind["type"] for kind in schema["anyOf"]} == {"string", "array"}


def test_test_files_stay_unseen() -> None:
    with pytest.raises(ValidationError, match=r"a\.txt is in validation and in test"):
        data_config({"format": "conll", "validation": ["a.txt"], "test": ["a.txt"]})
    with pytest.raises(ValidationError, match="names a file twice"):
        data_config({"format": "conll", "train": ["a.txt", "a.txt"]})


def test_missing_and_empty(tmp_path: Path) -> None:
    config = data_config(files(tmp_path, train="Ya O\n", validation="", test="\n\n"))
    with pytest.raises(DataError, match=r"validation\.txt: the file is empty"):
        config.read("validation")
    with pytest.raises(DataError, match=r"test\.txt: holds no example; the test split"):
        config.read("test")
    with pytest.raises(DataError, match=r"validation\.txt: the file is empty"):
        config.digest("validation")
    (tmp_path / "validation.txt").unlink()
    with pytest.raises(DataError, match=r"validation\.txt: the file is missing"):
        config.read("validation")
    (tmp_path / "validation.txt").mkdir()
    with pytest.raises(DataError, match="it is a directory, not a file"):
        config.read("validation")
    with pytest.raises(DataError, match=r"the test split is empty; list its files .*data\.test"):
        data_config({"format": "conll", "train": ["a.txt"]}).read("test")


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["hau/test.txt", "pcm/test.txt"], ("hau", "pcm")),
        (["a.tsv", "b.tsv"], ("a", "b")),
        (["data/hau/dev.txt", "data/swa/dev.txt"], ("hau", "swa")),
        (["hau_test.tsv", "swa_test.tsv"], ("hau", "swa")),
        (["hau/test.txt"], ("hau",)),
        (["test.txt"], ("test",)),
        (["train.txt", "extra.txt"], ("train", "extra")),
        (["a/x.txt", "a/x.tsv"], ("a/x.txt", "a/x.tsv")),
        (["x/a/1.txt", "x/b/2.txt"], ("a/1", "b/2")),
        (["/somewhere/hau/test.txt"], ("hau",)),
        ([], ()),
    ],
)
def test_sources_tell_files_apart(paths: list[str], expected: tuple[str, ...]) -> None:
    assert sources(tuple(map(Path, paths))) == expected


def test_digest_follows_contents_not_places(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = data_config(files(tmp_path / "one", train="Ya O\n", test="Ya O\n"))
    two = data_config(files(tmp_path / "two", train="Ya O\n", test="Wa O\n"))
    assert one.digest("train") == two.digest("train")
    assert one.digest("test") != two.digest("test")
    assert one.files("test") == (tmp_path / "one" / "test.txt",)


def test_digest_follows_options(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("text\ttweet\tlabel\na\tb\tc\n")
    base = {"format": "tsv", "root": str(tmp_path), "train": ["a.tsv"]}
    other = data_config({**base, "columns": {"text": "tweet"}})
    assert data_config(base).digest("train") != other.digest("train")


def test_labels_that_train_lacks_are_named(tmp_path: Path) -> None:
    good = files(tmp_path, train="Ya B-PER\n", validation="Wa O\n", test="Na B-PER\n")
    assert check_labels(data_config(good)) == ("B-PER",)
    known = {
        "train": (words_example(("a",), ("B-ORG",)),),
        "test": (words_example(("a", "b"), ("B-ORG", "O")),),
    }
    with pytest.raises(DataError, match="label 'B-PER' of the validation split"):
        check_labels(data_config(files(tmp_path, validation="Wa B-PER\n")), known)
    bad = files(
        tmp_path, train="Ya B-PER\n", validation="Na B-PER\n", test="Wa O\n\nA O\nB I-LOC\n"
    )
    with pytest.raises(DataError, match=r"test\.txt:4: label 'I-LOC' of the test split does not"):
        check_labels(data_config(bad))
    for name, label in (("train", "sw"), ("validation", "sw"), ("test", "yo")):
        (tmp_path / f"{name}.tsv").write_text(f"text\tlabel\na\tsw\nb\t{label}\n")
    config = {"format": "tsv", "root": str(tmp_path)}
    splits = {name: f"{name}.tsv" for name in ("train", "validation", "test")}
    with pytest.raises(DataError, match=r"test\.tsv:3: label 'yo'"):
        check_labels(data_config(config | splits))


def test_reading_a_description_loads_nothing_heavy() -> None:
    code = (
        "import sys; from edgecompress.data import data_config; "
        "data_config({'format': 'cldr'}); import edgecompress.tasks, edgecompress.tasks.compare; "
        "heavy = {'torch', 'transformers', 'onnxruntime', 'babel', 'sklearn'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
