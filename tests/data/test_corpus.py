"""Corpora: every form is read, labels are left out, and places do not matter."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from edgecompress.data.corpus import (
    Corpus,
    CorpusFile,
    check_corpus,
    corpus_identity,
    read_corpus,
)
from edgecompress.engine.recipe import load_recipe
from edgecompress.engine.recipe_paths import absolute_paths, placeless
from edgecompress.errors import DataError
from edgecompress.texts import text_example, words_example

CORPUS: TypeAdapter[tuple[object, ...]] = TypeAdapter(Corpus)
TRAIN = (
    words_example(words=("Ya", "tafi"), tags=("O", "O"), source="hau"),
    text_example(text="E don go", label="neutral", source="pcm"),
)


def write(folder: Path) -> Path:
    (folder / "amh").mkdir(parents=True)
    (folder / "yor").mkdir()
    (folder / "amh" / "train.txt").write_text("ለነገሩ O\nአበበ B-PER\n\nቤት O\n", encoding="utf-8")
    (folder / "yor" / "train.tsv").write_text("ID\ttext\n1\tÓ dára\n2\tÓ ti lọ\n", encoding="utf-8")
    (folder / "raw.txt").write_text("\ufeffmoja mbili\n\n  tatu \n", encoding="utf-8")
    return folder


def test_every_form_is_read(tmp_path: Path) -> None:
    root = write(tmp_path)
    corpus = CORPUS.validate_python(
        [
            "train",
            root / "raw.txt",
            {"file": str(root / "amh" / "train.txt"), "format": "conll"},
            {"file": str(root / "yor" / "train.tsv"), "format": "tsv"},
        ]
    )
    check_corpus(corpus)
    found = read_corpus(corpus, TRAIN)
    assert found == (
        words_example(words=("Ya", "tafi"), source="hau"),
        text_example(text="E don go", source="pcm"),
        text_example(text="moja mbili", source="raw"),
        text_example(text="tatu", source="raw"),
        words_example(words=("ለነገሩ", "አበበ"), source="amh"),
        words_example(words=("ቤት",), source="amh"),
        text_example(text="Ó dára", source="yor"),
        text_example(text="Ó ti lọ", source="yor"),
    )


def test_a_field_survives_json_and_a_lone_entry_needs_no_list(tmp_path: Path) -> None:
    class Fields(BaseModel):
        corpus: Corpus = ("train",)

    for value in ("train", "a.txt", {"file": "a.tsv", "format": "tsv"}, ["train", "b.txt"]):
        first = Fields(corpus=value)  # type: ignore[arg-type]
        assert Fields.model_validate(first.model_dump(mode="json")) == first
    named = Fields(corpus={"file": "a.csv", "columns": {"text": "tweet"}})  # type: ignore[arg-type]
    assert hash(named.corpus) == hash(named.model_copy(deep=True).corpus)
    assert Fields(corpus="a.txt").corpus == (CorpusFile(file=Path("a.txt")),)  # type: ignore[arg-type]
    assert Fields.model_json_schema()["properties"]["corpus"]


def test_what_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path)
    (root / "empty.txt").write_text("\n \n")
    for wrong in (["train", "train"], ["a.txt", {"file": "a.txt"}], [3], [{"file": "a", "x": 1}]):
        with pytest.raises(ValidationError):
            CORPUS.validate_python(wrong)
    with pytest.raises(DataError, match=r"missing.txt: the file is missing"):
        check_corpus(CORPUS.validate_python([root / "missing.txt"]))
    with pytest.raises(DataError, match=r"empty.txt: holds no text"):
        check_corpus(CORPUS.validate_python([root / "empty.txt"]))
    with pytest.raises(DataError, match=r"raw.txt.*line 1|raw.txt:1"):
        check_corpus(CORPUS.validate_python([{"file": root / "raw.txt", "format": "conll"}]))
    with pytest.raises(DataError, match=r"no column 'tekst'.*corpus.columns.text"):
        entry = {"file": root / "yor/train.tsv", "columns": {"text": "tekst"}}
        check_corpus(CORPUS.validate_python([entry]))
    with pytest.raises(DataError, match="there are no training examples"):
        read_corpus(("train",), ())
    check_corpus(("train",))  # whether there is data is asked when the stage runs


def test_identity_is_of_what_files_hold_not_of_where_they_lie(tmp_path: Path) -> None:
    first, second = write(tmp_path / "one"), write(tmp_path / "two" / "deeper")

    def identity(root: Path) -> list[object]:
        files = [root / "raw.txt", {"file": root / "amh/train.txt", "format": "conll"}]
        return corpus_identity(CORPUS.validate_python(["train", *files]))

    assert identity(first) == identity(second)
    assert [one if one == "train" else one["source"] for one in identity(first)] == [
        "train",
        "raw",
        "amh",
    ]
    (second / "raw.txt").write_text("nne\n")
    assert identity(first) != identity(second)


@settings(deadline=None, max_examples=30)
@given(
    names=st.lists(
        st.lists(st.sampled_from(["a", "b", "train", "dev"]), min_size=1, max_size=4).map(
            lambda parts: Path("/", *parts[:-1], f"{parts[-1]}.txt")
        ),
        min_size=1,
        max_size=5,
        unique=True,
    )
)
def test_sources_are_different_for_different_files(names: list[Path]) -> None:
    from edgecompress.data.corpus import _names

    found = _names(names)
    assert len(set(found)) == len(names)
    assert all(found)


def test_recipes_find_corpora_below_root_then_beside_the_recipe(tmp_path: Path) -> None:
    root = write(tmp_path / "data")
    (tmp_path / "raw.txt").write_text("beside\n")
    (tmp_path / "mine.txt").write_text("beside\n")
    stages = [
        {"any": [{"x": {"corpus": ["train", "raw.txt", "mine.txt", "none.txt"]}}, {"x": {}}]},
        {"y": {"transfer": {"file": "amh/train.txt", "format": "conll"}}},
        {"z": {"transfer": {"files": ["raw.txt"], "other": 1}}},
    ]
    document = {"data": {"root": "data"}, "stages": stages}
    found = absolute_paths(document, tmp_path)
    first, second, third = found["stages"]
    at_root = str(root / "raw.txt")
    assert first["any"][0]["x"]["corpus"] == [
        "train",
        at_root,
        str(tmp_path / "mine.txt"),
        "none.txt",
    ]
    assert second["y"]["transfer"] == {"file": str(root / "amh/train.txt"), "format": "conll"}
    assert third["z"]["transfer"] == {"files": [at_root], "other": 1}
    assert stages[1]["y"]["transfer"]["file"] == "amh/train.txt"  # the document is not changed
    # Written into a bundle: the way from the data's folder, so that it is found there again.
    written = placeless(found)
    assert written["stages"][0]["any"][0]["x"]["corpus"] == [
        "train",
        "raw.txt",
        "mine.txt",
        "none.txt",
    ]
    assert written["stages"][1]["y"]["transfer"]["file"] == "amh/train.txt"
    again = absolute_paths({**written, "data": {"root": str(root)}}, Path("/"))
    assert again["stages"][1] == found["stages"][1]


RECIPE = """\
name: cut
task: token-classification
teacher: {model: nowhere/at-all}
data: {format: conll, root: one, train: hau/train.txt, validation: hau/dev.txt, test: hau/test.txt}
stages:
  - vocabulary.trim: {corpus: [train, raw.txt], keep: 900}
  - export
"""


def test_a_root_from_the_command_line_decides(tmp_path: Path) -> None:
    first, second = write(tmp_path / "one"), write(tmp_path / "two")
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE)
    for root, laid in ((first, []), (second, [f"data.root={second}"])):
        [chain] = load_recipe(file, laid).chains
        corpus = chain[0].stage.model_dump(mode="json")["corpus"]
        assert corpus[1]["file"] == str(root / "raw.txt")
