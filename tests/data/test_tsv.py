"""TSV files: columns by name, wrong rows named by file and line."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecompress.data import data_config
from edgecompress.errors import DataError
from edgecompress.texts import label_of, text_example, text_of
from edgecompress.values import Example


def read(file: Path, **options: Any) -> tuple[Example, ...]:
    config = {"format": "tsv", "root": str(file.parent), "train": file.name, **options}
    return data_config(config).read("train")


def written(folder: Path, content: str | bytes) -> Path:
    file = folder / "hau.tsv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_afrisenti_form(tmp_path: Path) -> None:
    text = '\ufefftweet\tlabel\r\n@user """"Man""" 😂\tpositive\r\n\r\n  ba na so \tnegative\r\n'
    assert read(written(tmp_path, text), columns={"text": "tweet"}) == (
        text_example(text='@user """"Man""" 😂', label="positive", source="hau"),
        text_example(text="ba na so", label="negative", source="hau"),
    )


def test_other_columns_and_orders(tmp_path: Path) -> None:
    file = written(tmp_path, "id\tlabel\ttext\n7\tsw\tHabari\n")
    assert read(file) == (text_example(text="Habari", label="sw", source="hau"),)
    assert label_of(read(file, columns={"label": "id"})[0]) == "7"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("txt\tkind\na\tb\n", 1, "there is no column 'text' among 'txt', 'kind'"),
        ("txt\tlabel\na\tb\n", 1, "did you mean 'txt'? (set data.columns.text)"),
        ("text\tlabel\na\tb\nonly\n", 3, "expected 2 columns (text, label), found 1"),
        ("text\tlabel\na\tb\tc\n", 2, "found 3"),
        ("text\tlabel\na\t\n", 2, "the column label is empty"),
        ("text\tlabel\n \tb\n", 2, "the column text is empty"),
    ],
)
def test_bad_rows(tmp_path: Path, text: str, line: int, said: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read(file)
    assert (caught.value.file, caught.value.line) == (file, line)
    assert said in str(caught.value)


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=80), st.text(alphabet="a\t\n\r\u2028\x00", max_size=40)))
def test_any_rows_are_read_or_refused(content: bytes | str) -> None:
    body = content if isinstance(content, bytes) else content.encode()
    with tempfile.TemporaryDirectory() as folder:
        file = written(Path(folder), b"text\tlabel\n" + body)
        try:
            examples = read(file)
        except DataError as error:
            assert error.file == file
        else:
            assert all(text_of(example) and label_of(example) for example in examples)


field = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\t\n\r"), min_size=1
).filter(lambda text: text == text.strip() and not text.isspace())


@settings(deadline=None)
@given(st.lists(st.tuples(field, field), min_size=1))
def test_what_is_written_is_read(rows: list[tuple[str, str]]) -> None:
    text = "".join(f"{text}\t{label}\n" for text, label in [("text", "label"), *rows])
    with tempfile.TemporaryDirectory() as folder:
        examples = read(written(Path(folder), text))
    assert [(text_of(example), label_of(example)) for example in examples] == rows
