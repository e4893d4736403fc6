"""CoNLL files: odd ones are read, wrong ones are named by file and line."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecompress.data import data_config
from edgecompress.errors import DataError
from edgecompress.textfiles import is_tagged
from edgecompress.texts import tags_of, words_example, words_of
from edgecompress.values import Example


def read(file: Path) -> tuple[Example, ...]:
    config = data_config({"format": "conll", "root": str(file.parent), "train": [file.name]})
    return config.read("train")


def written(folder: Path, content: str | bytes) -> Path:
    file = folder / "train.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_masakhaner_form(tmp_path: Path) -> None:
    text = "Ya O\nal B-PER\n- I-PER\n\n\nKano B-LOC\n. O"
    assert read(written(tmp_path, text)) == (
        words_example(words=("Ya", "al", "-"), tags=("O", "B-PER", "I-PER"), source="train"),
        words_example(words=("Kano", "."), tags=("B-LOC", "O"), source="train"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffYa O\nKano B-LOC\n",
        "Ya O\r\nKano B-LOC\r\n\r\n",
        "Ya\tO\nKano  B-LOC\n",
        "  Ya O \n\tKano B-LOC\t\n   \n",
        "-DOCSTART- -X- -X- O\n\nYa O\nKano B-LOC\n",
        "-DOCSTART-\n\nYa O\nKano B-LOC\n",
    ],
    ids=["bom", "crlf", "tabs", "blanks", "docstart", "bare docstart"],
)
def test_harmless_differences(tmp_path: Path, text: str) -> None:
    (example,) = read(written(tmp_path, text))
    assert (words_of(example), tags_of(example)) == (("Ya", "Kano"), ("O", "B-LOC"))


def test_unicode_blanks_belong_to_words(tmp_path: Path) -> None:
    words = ("a\u00a0b", "\u200b", "\u2028", "c\u3000", "\u0085d", "e\x0cf", "\u00a0")
    text = "".join(f"{word} O\n" for word in words)
    (example,) = read(written(tmp_path, text))
    assert words_of(example) == words


def test_inside_without_begin_is_kept(tmp_path: Path) -> None:
    (example,) = read(written(tmp_path, "Ya O\nKano I-LOC\nLagos B-LOC\n"))
    assert tags_of(example) == ("O", "I-LOC", "B-LOC")


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("Ya O\nKano\n", 2, "expected a word, a blank and a tag, found 'Kano'"),
        ("Ya O\n\nO\n", 3, "expected a word"),
        ("Ya O\nKano NNP B-LOC\n", 2, "expected a word, a blank and a tag"),
        ("Ya X\n", 1, "expected the tag O, B-… or I-… after the word, found 'X'"),
        ("Ya B-\n", 1, "expected the tag O"),
        ("Ya\u00a0O\n", 1, "expected a word"),
    ],
)
def test_malformed_lines(tmp_path: Path, text: str, line: int, said: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read(file)
    assert (caught.value.file, caught.value.line) == (file, line)
    assert str(caught.value).startswith(f"{file}:{line}: {said}")
    assert caught.value.exit_code == 2


def test_not_utf8(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.txt:2: not UTF-8"):
        read(written(tmp_path, b"Ya O\n\xff\xfe O\n"))


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(alphabet="aO -B\tI\n\r\ufeff\u00a0\u2028", max_size=60).map(str.encode),
    )
)
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = written(Path(folder), content)
        try:
            examples = read(file)
        except DataError as error:
            assert error.file == file
        else:
            assert examples
            assert all(len(words_of(e)) == len(tags_of(e)) > 0 for e in examples)
            assert all(word for e in examples for word in words_of(e))


word = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters=" \t\n\r\ufeff"), min_size=1
).filter(lambda text: not text.startswith("-DOCSTART-"))
tag = st.one_of(st.just("O"), st.sampled_from(["B-PER", "I-PER", "B-LOC", "I-DATE"]))


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(word, tag), min_size=1), min_size=1), st.sampled_from("\n\r"))
def test_what_is_written_is_read(sentences: list[list[tuple[str, str]]], end: str) -> None:
    line_end = "\r\n" if end == "\r" else "\n"
    blocks = [line_end.join(f"{w} {t}" for w, t in pairs) for pairs in sentences]
    with tempfile.TemporaryDirectory() as folder:
        examples = read(written(Path(folder), (line_end * 2).join(blocks) + line_end))
    assert [list(zip(words_of(e), tags_of(e), strict=True)) for e in examples] == sentences


@pytest.mark.parametrize(
    ("content", "tagged"),
    [
        ("Ya O\nal B-PER\n\nKano B-LOC\n", True),
        ("-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\n", True),  # columns too many: CoNLL's fault
        ("Ya\tO\n", True),
        ("Kano LOC\nAbuja LOC\n", True),  # tags without B- and I-: the reader says so
        ("Ya tafi Kano jiya\nAbuja ta yi kyau\n", False),
        ("Abuja\nYa tafi Kano\n", False),
        ("Na gode\n\nYa tafi Kano\n", False),
        ("Kano\nAbuja\n", False),
    ],
)
def test_words_with_tags_are_told_from_plain_texts(
    tmp_path: Path, content: str, tagged: bool
) -> None:
    assert is_tagged(written(tmp_path, content)) is tagged
