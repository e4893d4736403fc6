"""Plain text: one example a line, no labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecompress.data import check_labels, data_config
from edgecompress.data.text import TextData
from edgecompress.errors import DataError
from edgecompress.tasks import task
from edgecompress.texts import text_example, text_of


def config(folder: Path, **files: str):
    for split, text in files.items():
        (folder / f"{split}.txt").write_text(text, encoding="utf-8")
    names = {split: f"{split}.txt" for split in files}
    return data_config({"format": "text", "root": str(folder), **names})


def test_each_line_is_an_example(tmp_path: Path):
    data = config(tmp_path, train="Ina kwana\n\n  Lafiya lau \r\n")
    assert data.read("train") == (
        text_example(text="Ina kwana", source="train"),
        text_example(text="Lafiya lau", source="train"),
    )
    assert data.locate("train", "B-PER") == (None, None)


def test_it_has_no_labels_for_other_tasks(tmp_path: Path):
    data = config(tmp_path, train="a\n", validation="b\n", test="c\n")
    assert check_labels(data) == ()
    with pytest.raises(DataError, match="no tags"):
        task("token-classification").label_names(data.read("train"))
    assert task("masked-lm").label_names(data.read("train")) == ()


def test_a_file_without_text_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="holds no example"):
        config(tmp_path, train="\n \n").read("train")


def test_texts_are_read_in_part_evenly_spread(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("\n".join(f"line {n}" for n in range(10)) + "\n")
    given = {"root": tmp_path, "train": "lines.txt"}
    read = TextData(**given, every=4).read("train")
    assert [text_of(one) for one in read] == ["line 0", "line 4", "line 8"]
    joined = TextData(**given, passage=15, every=2).read("train")
    assert [text_of(one) for one in joined] == [
        "line 0\nline 1",
        "line 4\nline 5",
        "line 8\nline 9",
    ]
    whole, part = TextData(**given), TextData(**given, every=4)
    assert whole.digest("train") != part.digest("train")
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        TextData(**given, every=0)
