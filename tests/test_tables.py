"""Files with columns in every dialect are read, and what is wrong is one sentence with its line."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecompress.errors import DataError
from edgecompress.tables import SUFFIXES, Wanted, csv_table, examples, open_table, take_columns
from edgecompress.texts import text_of
from edgecompress.values import Example

TEXTS = ["plain", "with, comma", "a; b", 'said "so"', "two\nlines", "olé 😀", "tab\there"]


def written(texts: list[str], separator: str, quoting: int = csv.QUOTE_MINIMAL) -> str:
    stream = io.StringIO()
    rows = csv.writer(stream, delimiter=separator, quoting=quoting)  # type: ignore[arg-type]
    rows.writerow(["id", "Text", "label"])
    rows.writerows([str(number), text, "x"] for number, text in enumerate(texts))
    return stream.getvalue()


def read(file: Path, columns: dict[str, str] | None = None, **wanted: Any) -> list[Example]:
    table = open_table(file)
    taken = take_columns(table, columns or {}, Wanted(**wanted))
    return [example for _, example, _ in examples(table, taken)]


def texts_of(file: Path) -> list[str]:
    return [text_of(one) for one in read(file)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_what_a_spreadsheet_writes(
    encoding: str, separator: str, suffix: str, quoting: int, tmp_path: Path
) -> None:
    file = tmp_path / f"t{suffix}"
    file.write_bytes(written(TEXTS, separator, quoting).encode(encoding))
    assert texts_of(file) == TEXTS


def test_a_line_that_names_the_separator(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text('"sep=;"\ntext;label\na, b;c\n\n"d;\ne";f\n')
    assert texts_of(file) == ["a, b", "d;\ne"]
    file.write_text("sep=;\ntext;label\na;b\nc\n")
    with pytest.raises(DataError, match=r"t.csv:4: expected 2 columns"):
        read(file)


def test_an_encoding_that_is_named(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes("text,label\nolé,a\n".encode("cp1252"))
    table = csv_table(file, encoding="cp1252")
    found = examples(table, take_columns(table, {}, Wanted()))
    assert [example.inputs["text"] for _, example, _ in found] == ["olé"]


@given(st.lists(st.text(min_size=1), min_size=1, max_size=8))
def test_any_text_comes_back(texts: list[str]) -> None:
    kept = [t.replace("\r", " ").replace("\0", " ").strip() or "x" for t in texts]
    kept = [t.encode("utf-8", "replace").decode() for t in kept]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "t.csv"
        file.write_bytes(written(kept, ";").encode("utf-8-sig"))
        assert texts_of(file) == kept
        lines = [json.dumps({"text": one, "label": 1}) for one in kept]
        (Path(folder) / "t.jsonl").write_text("\n".join(lines))
        (Path(folder) / "t.json").write_text(f"[{','.join(lines)}]")
        for name in ("t.jsonl", "t.json"):
            assert texts_of(Path(folder) / name) == kept


BAD = {
    "latin-1": (b"text,label\nol\xe9,a\n", ".csv", ":2: not UTF-8; save the table as UTF-8"),
    "windows": (b"text,label\nfine,a\n\x93quoted\x94,a\n", ".csv", ":3: not UTF-8"),
    "half of UTF-16": (b"\xff\xfet\x00e", ".csv", "not UTF-16"),
    "other columns": (b"x,label\na,b\n", ".csv", ":1: there is no column 'text' among 'x'"),
    "mistyped": (b"txt,label\na,b\n", ".csv", "did you mean 'txt'"),
    "no label": (b"text,x\na,b\n", ".csv", "there is no column 'label' among 'text', 'x'"),
    "open quote": (b'text,label\nfine,a\n"never closed,a\nb,c\n', ".csv", ":3: no row of a table"),
    "multi-line, then short": (b'text,label\n"a\nb",x\nc\n', ".csv", ":4: expected 2 columns"),
    "empty": (b"", ".csv", "the file is empty"),
    "no header": (b",\na,b\n", ".csv", ":1: there is no header"),
    "twice": (b"text,text,label\na,b,c\n", ".csv", ":1: two columns are called 'text'"),
    "two that fit": (b"tweet,review,label\na,b,c\n", ".csv", "'tweet' and 'review' may each be"),
    "empty cell": (b"text,label\na,\n", ".csv", ":2: the column label is empty"),
    "a huge cell": (b'text,label\n"' + b"a" * 2_200_000 + b'",b\n', ".csv", ":2: "),
    "plain TSV with a field more": (b"text\tlabel\na\tb\tc\n", ".tsv", ":2: expected 2 columns"),
    "not JSON": (b'{"text": "a", "label": 1}\n{"text": \n', ".jsonl", ":2: cannot be read as JSON"),
    "no object": (b"3\n", ".jsonl", ":1: a record must be an object"),
    "null": (b'{"text": null, "label": 1}\n', ".jsonl", ":1: the column text is empty"),
    "NaN": (b'{"text": "a", "label": NaN}\n', ".jsonl", ":1: the column label is empty"),
    "a fraction": (b'{"text": "a", "label": 0.5}', ".jsonl", "expected a label, found a number"),
    "a list": (b'{"text": ["a"], "label": 1}', ".jsonl", "expected a text, found a list"),
    "half a pair": (b'{"text": "\\ud800", "label": 1}', ".jsonl", "half of a surrogate pair"),
    "deep": (b"[" * 100_000, ".json", "nested too deeply"),
    "a key that is gone": (
        b'{"text": "a", "label": 1}\n\n{"text": "b"}\n', ".jsonl", ":3: the column label is empty"
    ),
    "an empty list": (b"[]", ".json", "holds no record"),
    "a list without its end": (b'[\n{"text": "a", "label": 1}\n', ".json", ":3: the list lacks"),
    "a list with a word": (b'[{"text": "a", "label": 1},\n"b"]', ".json", ":2: a record must be"),
    "more behind the list": (b'[{"text": "a", "label": 1}] x', ".json", "something follows"),
    "tags without words": (b'{"tokens": ["a", "b"], "tags": ["O"]}', ".jsonl", "words have 1 tags"),
    "numbers without names": (b'{"tokens": ["a"], "tags": [1]}', ".jsonl", "data.classes"),
    "no tag": (b'{"tokens": ["a"], "tags": ["PER"]}', ".jsonl", "tag 1 must be O, B-"),
    "an empty word": (b'{"tokens": ["a", " "], "tags": ["O", "O"]}', ".jsonl", "word 2 is empty"),
    "UTF-8 it is not": (b'{"text": "\xe9", "label": 1}', ".jsonl", ":1: not UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_one_sentence(name: str, tmp_path: Path) -> None:
    content, suffix, told = BAD[name]
    file = tmp_path / f"t{suffix}"
    file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(file)
    assert told in str(caught.value)
    assert str(caught.value).startswith(str(file))
    assert len(str(caught.value)) < len(str(file)) + 300


@settings(deadline=None, max_examples=150)
@given(
    st.binary(max_size=120) | st.text(alphabet='{}[]":,a1\n\\ ', max_size=60),
    st.sampled_from(sorted(SUFFIXES)),
    st.sampled_from([b"", b"text,label\n", b'{"text": "a", "label": 1}\n', b"[", b"text\tlabel\n"]),
)
def test_any_bytes_are_read_or_refused(body: bytes | str, suffix: str, begin: bytes) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
        begin = b"PAR1"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"t{suffix}"
        file.write_bytes(begin + (body if isinstance(body, bytes) else body.encode()))
        try:
            found = read(file)
        except DataError as error:
            assert error.file == file
        else:
            assert all((text_of(one) and one.target) or one.inputs.get("words") for one in found)


def test_common_names_are_guessed_and_others_named(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("id,headline,note,category\n1,a,n,b\n")
    assert read(file) == [Example({"text": "a"}, "b")]
    assert read(file, {"text": "note", "label": "id"}) == [Example({"text": "n"}, "1")]
    with pytest.raises(DataError, match="did you mean 'headline'"):
        read(file, {"text": "headlin"})
    with pytest.raises(DataError, match=r"'label' and 'tags', not for 'txt'; did you"):
        read(file, {"txt": "headline"})
    (tmp_path / "u.csv").write_text("text,sentence,label\na,s,b\n")
    assert read(tmp_path / "u.csv") == [Example({"text": "a"}, "b")]  # its very name says it


def test_words_say_more_than_the_text_where_they_are_tagged(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    record = {"text": "a b", "tokens": ["a", "b"], "ner_tags": ["O", "B-X"], "label": 2}
    file.write_text(json.dumps(record))
    tagged = Example({"words": ("a", "b")}, ("O", "B-X"))
    assert read(file) == [tagged]
    assert read(file, forms=(("text",), ("words",)), target="tags") == [tagged]
    assert read(file, forms=(("text",),), target="label") == [Example({"text": "a b"}, "2")]
    (tmp_path / "t.csv").write_text("words,tags\na b,O B-X\n")
    assert read(tmp_path / "t.csv") == [tagged]


def test_names_of_class_numbers(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("text,label\na,1\nb,0\n")
    table = open_table(file)
    found = examples(table, take_columns(table, {}, Wanted()), classes=("no", "yes"))
    assert [example.target for _, example, _ in found] == ["yes", "no"]
    with pytest.raises(DataError, match=r"t.csv:2: the column label: there is no class 1 among 1"):
        list(examples(table, take_columns(table, {}, Wanted()), classes=("no",)))
