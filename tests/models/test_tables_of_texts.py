"""Tables as spreadsheets write them, in every dialect, or a sentence that names the line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecompress.errors import DataError
from edgecompress.models.tables_of_texts import table_texts

TEXTS = ["plain", "with, comma", "a; b", 'said "so"', "two\nlines", "olé 😀", "tab\there"]


def written(texts: list[str], separator: str, quoting: int = csv.QUOTE_MINIMAL) -> str:
    stream = io.StringIO()
    rows = csv.writer(stream, delimiter=separator, quoting=quoting)  # type: ignore[arg-type]
    rows.writerow(["id", "Text", "label"])
    rows.writerows([str(number), text, "x"] for number, text in enumerate(texts))
    return stream.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_what_a_spreadsheet_writes(
    encoding: str, separator: str, suffix: str, quoting: int, tmp_path: Path
) -> None:
    file = tmp_path / f"t{suffix}"
    file.write_bytes(written(TEXTS, separator, quoting).encode(encoding))
    assert list(table_texts(file, "text")) == TEXTS


@given(st.lists(st.text(min_size=1), min_size=1, max_size=8))
def test_any_text_comes_back(texts: list[str]) -> None:
    import tempfile

    kept = [t.replace("\r", " ").replace("\0", " ").strip() or "x" for t in texts]
    kept = [t.encode("utf-8", "replace").decode() for t in kept]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "t.csv"
        file.write_bytes(written(kept, ";").encode("utf-8-sig"))
        assert list(table_texts(file, "text")) == kept


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("text,label\nol\xe9,a\n".encode("latin-1"), "t.csv:2: not UTF-8; save the table as UTF-8"),
        (b"text,label\nfine,a\n\x93quoted\x94,a\n", "t.csv:3: not UTF-8"),
        (b"\xff\xfet\x00e", "t.csv"),
        (b"words,label\na,b\n", "no column 'text' but words, label"),
        (b'text,label\n"never closed,a\nb,c\n', "cannot be read|can be read"),
        (b"", "no column 'text' but none"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=told):
        list(table_texts(tmp_path / "t.csv", "text"))
