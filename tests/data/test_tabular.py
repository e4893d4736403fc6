"""Formats with columns: what a task takes of them, and splits that are drawn from them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from extending import module
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edgecompress.data import check_labels, data_config
from edgecompress.data.drawing import SplitSpec, draw
from edgecompress.errors import DataError
from edgecompress.tasks import task as task_of
from edgecompress.tasks import wanted
from edgecompress.texts import label_of, text_example, text_of, words_example
from edgecompress.values import Example


def reviews(folder: Path, count: int = 200) -> dict[str, Any]:
    lines = ["author,tweet,category"]
    for number in range(count):
        label = "rare" if number % 40 == 7 else ("good", "bad")[number % 2]
        lines.append(f"a{number // 5},text {number},{label}")
    (folder / "all.csv").write_text("\n".join(lines))
    return {"format": "csv", "root": str(folder), "train": "all.csv"}


def read(document: dict[str, Any], task: str) -> tuple[Example, ...]:
    return data_config(document).for_task(wanted(task_of(task))).read("train")


def test_a_task_takes_what_it_needs(tmp_path: Path) -> None:
    record = {"text": "a b", "tokens": ["a", "b"], "ner_tags": [0, 2], "label": True}
    (tmp_path / "t.jsonl").write_text(json.dumps(record))
    base = {"format": "jsonl", "root": str(tmp_path), "train": "t.jsonl"}
    assert read(base, "text-classification") == (text_example("a b", "true", "t"),)
    assert read(base, "masked-lm") == (text_example("a b", source="t"),)
    tagged = read({**base, "classes": ["O", "B-PER", "I-PER"]}, "token-classification")
    assert tagged == (words_example(("a", "b"), ("O", "I-PER"), "t"),)
    with pytest.raises(DataError, match=r"t.jsonl:1: the column ner_tags: .*data.classes"):
        read(base, "token-classification")
    (tmp_path / "t.jsonl").write_text('{"text": "a b", "label": 1}')
    with pytest.raises(DataError, match="there is no column 'words' among 'text', 'label'"):
        read(base, "token-classification")


def test_other_tasks_take_what_json_holds(tmp_path: Path) -> None:
    page = module("numbers_task")
    lines = [{"values": [[0.1, 2.0], [0.3, 1.0]], "class": "rising"}, {"values": "no", "class": 1}]
    (tmp_path / "t.jsonl").write_text(json.dumps(lines[0]))
    data = data_config({"format": "jsonl", "root": str(tmp_path), "train": "t.jsonl"})
    data = data.for_task(wanted(page.NumberSequences()))
    (found,) = data.read("train")
    assert (found.inputs["values"], found.target) == (([0.1, 2.0], [0.3, 1.0]), "rising")
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(DataError, match=r"t.jsonl:2: the column values must hold a list of pairs"):
        data.read("train")


def test_what_was_taken_is_said(tmp_path: Path) -> None:
    data = data_config({**reviews(tmp_path), "split": {"test": 0.1, "group": "author"}})
    assert hash(data) == hash(data.model_copy(deep=True))
    said = data.facts()
    assert said["columns"] == "text from 'tweet', label from 'category'"
    assert "0.9 train, 0.1 test" in said["splits drawn"]
    assert "equal values of author" in said["splits drawn"]
    assert data.drawn("test") == {"share": 0.1, "seed": 0, "group": "author"}
    assert data.drawn("validation") is None


def test_splits_are_drawn_by_label_and_always_alike(tmp_path: Path) -> None:
    shares = {"train": 0.8, "validation": 0.1, "test": 0.1}
    data = data_config({**reviews(tmp_path), "split": shares})
    splits = {split: data.read(split) for split in ("train", "validation", "test")}
    assert {split: len(found) for split, found in splits.items()} == {
        "train": 160, "validation": 20, "test": 20
    }  # fmt: skip
    assert check_labels(data) == ("bad", "good", "rare")
    for split, share in shares.items():
        for label, count in Counter(map(label_of, data.read("train"))).items():
            whole = count / shares["train"]
            here = sum(label_of(one) == label for one in splits[split])
            assert abs(here - whole * share) <= 2
    texts = [text_of(one) for found in splits.values() for one in found]
    assert sorted(texts) == sorted(f"text {number}" for number in range(200))
    assert data_config({**reviews(tmp_path), "split": shares}).read("test") == splits["test"]
    other = data_config({**reviews(tmp_path), "split": {**shares, "seed": 1}})
    assert other.read("test") != splits["test"]
    assert len({data.digest(split) for split in splits} | {other.digest("test")}) == 4


def test_a_group_stays_on_one_side(tmp_path: Path) -> None:
    shares = {"validation": 0.2, "test": 0.2, "group": "author"}
    data = data_config({**reviews(tmp_path), "split": shares})
    sides = [
        {int(text_of(one).split()[1]) // 5 for one in data.read(split)}
        for split in ("train", "validation", "test")
    ]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 40
    assert all(sides)
    wrong = data_config({**reviews(tmp_path), "split": {"test": 0.2, "group": "autor"}})
    with pytest.raises(DataError, match=r"did you mean 'author'.*data.split.group"):
        wrong.read("test")


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from("abc"), st.sampled_from(["", "g", "h"]))
    ),
    st.integers(0, 5),
)
def test_equal_texts_and_groups_stay_together(rows: list[Any], seed: int) -> None:
    examples = [text_example(f"text {text}", label) for text, label, _ in rows]
    groups = [group for _, _, group in rows]
    try:
        found = draw(examples, groups, SplitSpec(validation=0.2, test=0.2, seed=seed))
    except DataError as error:
        assert "data.split" in str(error)
        return
    side = {index: split for split, indices in found.items() for index in indices}
    assert sorted(side) == list(range(len(rows)))
    for one, (text, _, group) in enumerate(rows):
        for two, (other, _, theirs) in enumerate(rows[:one]):
            if text == other or (group and group == theirs):
                assert side[one] == side[two]
    assert {rows[index][1] for index in found["train"]} == {label for _, label, _ in rows}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"split": {}}, "give validation or test a share"),
        ({"split": {"train": 0.5, "test": 0.1}}, "the shares add up to 0.6"),
        ({"split": {"validation": 0.5, "test": 0.5}}, "nothing is left for train"),
        ({"split": {"test": 0.1}, "test": "b.csv"}, "test has data of its own and a share"),
        ({"delimiter": '"'}, "neither a quotation mark"),
        ({"encoding": "klingon"}, "knows no encoding"),
        ({"format": "conll", "split": {"test": 0.1, "group": "author"}}, "has no columns"),
        ({"format": "datasets", "train": None}, "give root, a folder, or hub"),
    ],
)
def test_what_cannot_be_meant(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        data_config({"format": "csv", "train": "a.csv", **fields})


def test_a_share_that_gives_nothing_is_refused(tmp_path: Path) -> None:
    data = data_config({**reviews(tmp_path, 5), "split": {"test": 0.01}})
    with pytest.raises(DataError, match=r"a share of 0\.01 for test gives it none of 5 different"):
        data.read("test")
    empty = data_config(reviews(tmp_path, 5))
    with pytest.raises(DataError, match=r"the test split is empty; .*data.split"):
        empty.read("test")


def test_tagged_sentences_are_drawn_too(tmp_path: Path) -> None:
    words = [f"w{number} {'B-PER' if number % 3 else 'B-LOC'}\n" for number in range(30)]
    (tmp_path / "all.txt").write_text("\n".join(words))
    data = data_config(
        {"format": "conll", "root": str(tmp_path), "train": "all.txt", "split": {"test": 0.2}}
    )
    assert len(data.read("test")) == 6
    assert check_labels(data, {"validation": ()}) == ("B-LOC", "B-PER")


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # it leaves files open
def test_data_sets_of_the_library(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    tags = datasets.ClassLabel(names=["O", "B-PER", "I-PER"])
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(tags),
        }
    )
    rows = {
        "id": ["1", "2", "3"],
        "tokens": [["Ya", "Ali"], ["na"], ["ta"]],
        "ner_tags": [[0, 1], [0], [0]],
    }
    made = datasets.Dataset.from_dict(rows, features)
    both = datasets.DatasetDict({"train": made, "dev": made.select([1])})
    both.save_to_disk(tmp_path / "saved")
    files = tmp_path / "files" / "data"
    files.mkdir(parents=True)
    made.to_parquet(files / "train-00000-of-00001.parquet")
    made.select([1]).to_parquet(files / "validation-00000-of-00001.parquet")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "train.csv").write_text("text,label\na,b\n")
    right = tuple(
        words_example(*one)
        for one in ((("Ya", "Ali"), ("O", "B-PER")), (("na",), ("O",)), (("ta",), ("O",)))
    )
    for folder in ("saved", "files"):
        data = data_config({"format": "datasets", "root": str(tmp_path / folder)})
        data = data.for_task(wanted(task_of("token-classification")))
        assert (data.read("train"), data.read("validation")) == (right, right[1:2])
        assert data.digest("train") != data.digest("validation")
        with pytest.raises(DataError, match=r"no split 'test' but train, .*data.split"):
            data.read("test")
        drawn = data_config(
            {"format": "datasets", "root": str(tmp_path / folder), "split": {"test": 0.4}}
        )
        assert len(drawn.read("test")) == 1
    plain = data_config({"format": "datasets", "root": str(tmp_path / "plain")})
    assert plain.read("train") == (text_example("a", "b"),)
    with pytest.raises(DataError, match="there is no such folder"):
        data_config({"format": "datasets", "root": str(tmp_path / "none")}).read("train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="cannot be read as a data set"):
        data_config({"format": "datasets", "root": str(tmp_path / "empty")}).read("train")


def test_a_damaged_parquet_file_is_one_sentence(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    file = tmp_path / "a.parquet"
    rows = {"text": [f"text {n}" for n in range(500)], "label": [0.0, None] * 250}
    datasets.Dataset.from_dict(rows).to_parquet(file)
    data = data_config({"format": "parquet", "root": str(tmp_path), "train": "a.parquet"})
    with pytest.raises(DataError, match=r"a.parquet: row 2: the column label is empty"):
        data.read("train")
    whole = file.read_bytes()
    for cut in (10, len(whole) // 2, len(whole) - 3):
        file.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"a.parquet: cannot be read as Parquet \(") as caught:
            data.read("train")
        assert "\n" not in str(caught.value)


def test_the_hub_is_asked_only_where_a_recipe_says_so(tmp_path: Path) -> None:
    """A real process, a hub that does not answer, and a cache that has one data set."""
    cached = tmp_path / "hub" / "datasets--org--here"
    commit = "a" * 40
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    (cached / "snapshots" / commit).mkdir(parents=True)
    (cached / "snapshots" / commit / "train.csv").write_text("text,label\na,b\n")
    code = (
        "from edgecompress.data import data_config\n"
        "from edgecompress.errors import DataError\n"
        "for hub in ('org/here', 'org/gone', '../here'):\n"
        "    try: print(data_config({'format': 'datasets', 'hub': hub}).folder)\n"
        "    except DataError as error: print(error)\n"
    )
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(tmp_path / "hub")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, **environment},
    )  # fmt: skip
    here, gone, wrong = done.stdout.splitlines()
    assert here == str(cached / "snapshots" / commit)
    assert "the data set 'org/gone' cannot be fetched, as the hub cannot be reached" in gone
    assert "is written ORG/NAME, not '../here'" in wrong
