"""Texts in two splits: planted copies are counted, each as what it is; a known test is refused."""

from __future__ import annotations

import subprocess
import unicodedata
from dataclasses import asdict
from pathlib import Path

import pytest
from commands import in_process
from hypothesis import given
from hypothesis import strategies as st

from edgecompress.data import data_config
from edgecompress.data.overlap import Quoted, check_overlaps, normalised, overlaps, quoted
from edgecompress.errors import DataError
from edgecompress.report.floor import floor_and_overlaps
from edgecompress.results import RunResult, Verdict
from edgecompress.texts import text_example, words_example
from edgecompress.values import Example

WORDS = ("kasuwa", "jiya", "sokoni", "ƙasa", "ọjà", "ጤና", "😂", "c+", "7", "Strasse", "ﬁnal")


def unlike(text: str, how: int) -> str:
    """Write a text otherwise: it stays the same when it is normalised, and no letter for letter."""
    changed = (
        text.upper(),
        f"  {text}",
        text.replace(" ", " , "),
        f"«{text}»!",
        text.replace(" ", "\u00a0"),
        unicodedata.normalize("NFKC", text) + "\u200b",
        "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text) + ".",
    )
    return changed[how % len(changed)]


@st.composite
def planted(draw):
    """Give train, another split with copies in it, and how many of each kind were planted."""
    sizes = st.integers(0, 6)
    train = [f"{draw(st.sampled_from(WORDS))} na {n} t" for n in range(draw(st.integers(1, 12)))]
    exact = [draw(st.sampled_from(train)) for _ in range(draw(sizes))]
    like = [
        unlike(draw(st.sampled_from(train)), draw(st.integers(0, 6))) for _ in range(draw(sizes))
    ]
    new = [f"{draw(st.sampled_from(WORDS))} ne {n} o" for n in range(draw(sizes))]
    new += new[: draw(sizes)]  # a text that stands twice in one split is no overlap
    other = draw(st.permutations([*exact, *like, *new]))
    return [*train, *train[: draw(sizes)]], list(other), len(exact), len(like)


def split(texts: list[str]) -> list[Example]:
    return [text_example(text=text, label="x") for text in texts]


@given(planted())
def test_what_was_planted_is_counted(found) -> None:
    train, other, exact, like = found
    (one,) = overlaps({"train": split(train), "test": split(other)}) or (None,)
    if not other:
        assert one is None
        return
    assert (one.of, one.within, one.examples) == ("test", "train", len(other))
    assert (one.exact, one.normalised) == (exact, exact + like)
    refused = exact + like > len(other) / 2
    if refused:
        with pytest.raises(DataError, match=r"stand in train, too.*data\.seen_test: accept"):
            check_overlaps([one])
    else:
        check_overlaps([one])


def test_every_two_splits_are_compared_and_only_the_test_is_refused() -> None:
    same = split(["a b", "c d"])
    found = overlaps({"train": same, "validation": same, "test": split(["e", "f"])})
    assert [(one.of, one.within, one.normalised) for one in found] == [
        ("validation", "train", 2), ("test", "train", 0), ("test", "validation", 0),
    ]  # fmt: skip
    check_overlaps(found)
    found = overlaps({"train": split(["x"]), "validation": same, "test": same[:1]})
    with pytest.raises(DataError, match="1 of 1 examples of test"):
        check_overlaps(found)


def test_words_and_running_text_are_the_same_text() -> None:
    words = [words_example(words=("Buhari", "ya", "je", "Abuja", "."), tags=("O",) * 5)]
    (one,) = overlaps({"train": words, "test": split(["Buhari ya je Abuja."])})
    assert (one.exact, one.normalised) == (0, 1)


def test_what_normalising_keeps_apart() -> None:
    assert (
        len({normalised(text) for text in ("😂", "😭", "...", "!?", "c++", "c", "ƙasa", "kasa")})
        == 8
    )
    assert normalised("") == ""


def test_to_insist_changes_no_digest(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.tsv").write_text("text\tlabel\na b\tx\n", encoding="utf-8")
    plain = {"format": "tsv", "root": str(tmp_path), "train": "train.tsv", "test": "test.tsv"}
    insists = data_config({**plain, "seen_test": "accept"})
    assert insists.digest("test") == data_config(plain).digest("test")


def check(recipe: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return in_process("check", recipe, *more)


def test_check_says_every_pair_and_refuses_a_test_that_was_seen(tmp_path: Path) -> None:
    rows = [f"this is text {n}\t{'ab'[n % 2]}" for n in range(40)]
    parts = {
        "train": rows[:20],
        "validation": [*rows[20:26], *rows[:2]],
        "test": [*rows[26:36], *(row.replace("this", "THIS") for row in rows[:11])],
    }
    for name, lines in parts.items():
        text = "\n".join(["text\tlabel", *lines]) + "\n"
        (tmp_path / f"{name}.tsv").write_text(text, encoding="utf-8")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "name: r\ntask: text-classification\nteacher: {new: {layers: 1}, finetune: {epochs: 1}}\n"
        "stages: [export]\n"
        "minimize: size\ndata: {format: tsv, root: ., train: train.tsv, "
        "validation: validation.tsv, test: test.tsv}\n"
    )
    refused = check(recipe)
    assert refused.returncode == 2
    said = refused.stderr.replace("\n", " ")
    assert "11 of 21 examples of test (52.4%) stand in train, too" in said
    assert "Traceback" not in refused.stderr
    taken = check(recipe, "--set", "data.seen_test=accept")
    assert taken.returncode == 0, taken.stderr
    assert "2 of 8 examples of validation (25.0%) stand in train, too\n" in taken.stdout
    assert "11 of 21 examples of test (52.4%) stand in train, too, 0 of them letter" in taken.stdout
    assert "2 of 21 examples of test (9.5%) stand in validation, too, 0 of" in taken.stdout


SENTENCE = "Shugaba Buhari ya tafi birnin London jiya da safe"


def corpus(**texts: str) -> list[Example]:
    return [text_example(text=text, source=name) for name, text in texts.items()]


def test_six_words_in_a_row_tell_of_one_document() -> None:
    asked = [
        words_example(words=("«", *SENTENCE.split()[:5], "»"), tags=("O",) * 7),
        words_example(words=tuple(SENTENCE.split()), tags=("O",) * 9),
        *split(["Buhari ya tafi", "ruwan sama ya sauka a Kano yau da yamma"]),
    ]
    texts = corpus(
        news=f"Abuja: {SENTENCE.upper()}, in ji wani.",
        blog="amma Buhari, ya tafi birnin London; jiya",
        prose="ruwan sama mai yawa ya sauka a Kano",
    )
    (one,) = quoted({"train": split([SENTENCE]), "test": asked}, texts)
    assert (one.of, one.shared, one.examples) == ("test", 1, 2), one
    assert one.corpora == {"news": 1, "blog": 1}
    assert one.words.startswith("1 of 2 examples of test (50.0%) share 6 words in a row with")
    (none,) = quoted({"validation": asked}, texts[2:])
    assert (none.shared, none.corpora) == (0, {})
    assert none.words == "no example of validation shares 6 words in a row with a corpus"


def test_what_has_no_six_words_is_not_told_of() -> None:
    assert quoted({"test": split(["a b c d e"])}, corpus(news="a b c d e f")) == ()
    assert quoted({"test": split(["a b c d e f"])}, ()) == ()


def test_a_report_tells_of_a_corpus_and_leaves_out_what_it_cannot_read() -> None:
    texts = [Quoted("test", 1, 2, {"news": 1}), Quoted("validation", 0, 3)]
    known = [*map(asdict, texts), {"of": "test"}, None, {**asdict(texts[0]), "corpora": 7}]
    result = RunResult(
        "r", None, {}, (), None, Verdict("budget", "pass", ""), "size", (), {}, {"quoted": known}
    )
    assert [line.partition(" words")[0] for line in floor_and_overlaps(result)] == [
        "1 of 2 examples of test (50.0%) share 6",
        "No example of validation shares 6",
    ]


def test_check_tells_of_a_corpus_that_knows_the_test(tmp_path: Path) -> None:
    for name, text in (("train", "a b c d e f"), ("validation", "no no no"), ("test", SENTENCE)):
        (tmp_path / f"{name}.tsv").write_text(f"text\tlabel\n{text}\tx\nnaye\ty\n", "utf-8")
    (tmp_path / "news.txt").write_text(f"Na ji cewa {SENTENCE}.\n", "utf-8")
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "name: r\ntask: text-classification\nteacher: {new: {layers: 2}, finetune: {epochs: 1}}\n"
        "stages:\n  - vocabulary.trim: {min_count: 1, corpus: [train, news.txt]}\n"
        "  - distil: {epochs: 1, transfer: {corpus: [news.txt]}}\n  - export\n"
        "minimize: size\ndata: {format: tsv, root: ., train: train.tsv, "
        "validation: validation.tsv, test: test.tsv}\n"
    )
    done = check(recipe)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "1 of 1 examples of test (100.0%) share 6 words in a row with a corpus (news 1)" in said
    (tmp_path / "news.txt").unlink()
    lost = check(recipe)
    assert lost.returncode == 2
    assert "news.txt" in lost.stderr
    assert "stages" in lost.stderr
