"""Trimmed tokenizers: equal where they can be, able to split any text, and sound on disk."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from trained_tokenizers import KINDS, texts, write

from edgecompress.errors import DataError, StageError
from edgecompress.processors import TextProcessor
from edgecompress.surgery.vocabulary.alphabet import minimum, needed, script, scripts_used
from edgecompress.surgery.vocabulary.choice import choose
from edgecompress.surgery.vocabulary.files import new_ids, processor_tokens, write_trimmed
from edgecompress.surgery.vocabulary.pieces import ancestors, read_vocabulary
from edgecompress.surgery.vocabulary.proof import check_readable, prove
from edgecompress.surgery.vocabulary.splitting import counts_by_group, split
from edgecompress.texts import text_example, text_of, words_example

CORPUS = [text_example(text=line) for line in texts(40, seed=5)]
HELD_OUT = [text_example(text=line) for line in texts(150, seed=9, length=2)]


_FOLDER = tempfile.TemporaryDirectory(prefix="edgecompress-vocabulary-")


@functools.cache
def original(kind: str) -> Path:
    return write(kind, Path(tempfile.mkdtemp(dir=_FOLDER.name)))


@functools.cache
def trimmed(kind: str, alphabet: str = "all", extra: int = 40) -> Path:
    """Trim a tokenizer to what any text needs and `extra` pieces more."""
    source, folder = original(kind), Path(tempfile.mkdtemp(dir=_FOLDER.name))
    vocabulary = read_vocabulary(source / "tokenizer.json")
    found = split(TextProcessor.load(source).tokenizer, CORPUS)
    counts = counts_by_group(found, vocabulary.names, [len(CORPUS)])
    least = minimum(
        vocabulary, needed(vocabulary, counts[0], alphabet, processor_tokens(vocabulary))
    )
    choice = choose(vocabulary, counts, least, keep=len(least) + extra)
    assert len(choice.kept) == len(least) + extra
    write_trimmed(vocabulary, choice.kept, source, folder)
    return folder


def both(kind: str) -> tuple[Tokenizer, Tokenizer]:
    first, second = (TextProcessor.load(f).tokenizer for f in (original(kind), trimmed(kind)))
    return first, second


@pytest.mark.parametrize("kind", KINDS)
def test_equal_where_all_pieces_are_kept(kind: str) -> None:
    before, after = both(kind)
    vocabulary = read_vocabulary(original(kind) / "tokenizer.json")
    ids = after.get_vocab()
    assert len(ids) < 0.9 * len(before.get_vocab())
    splits = [split(one, [*CORPUS, *HELD_OUT]) for one in (before, after)]
    found = prove(vocabulary, ids, *splits)
    assert found.unequal == 0
    assert 0 < found.other_texts < found.texts  # some are as before, some have lost a piece
    assert 0 < found.other_words < found.words
    assert found.pieces[1] > found.pieces[0]
    assert found.unknown[0] == found.unknown[1]
    for example in CORPUS:
        old = before.encode(text_of(example), add_special_tokens=False)
        new = after.encode(text_of(example), add_special_tokens=False)
        if all(piece in ids for piece in old.tokens):
            assert new.tokens == old.tokens
        assert after.decode(new.ids) == before.decode(old.ids)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=60)
@given(
    text=st.text(
        st.sampled_from("kanolgsbriumwthde .,!?%5 ẹ̀ọкошa中国日本naïUSN»«\t\n日ሰß€")
        | st.characters(exclude_categories=["Cs"]),
        max_size=30,
    )
)
def test_any_text_still_splits(kind: str, text: str) -> None:
    """No text has more unknown characters than before, and nothing of it is lost."""
    before, after = both(kind)
    old, new = (one.encode(text, add_special_tokens=False) for one in (before, after))
    unknown = read_vocabulary(original(kind) / "tokenizer.json").unknown
    covered = [
        [span for name, span in zip(e.tokens, e.offsets, strict=True)
         if one.token_to_id(name) is None or name == unknown]
        for one, e in ((before, old), (after, new))
    ]  # fmt: skip
    assert covered[0] == covered[1]
    assert after.decode(new.ids) == before.decode(old.ids)


@pytest.mark.parametrize("kind", KINDS)
def test_files_load_everywhere_with_equal_ids(kind: str) -> None:
    from transformers import AutoTokenizer

    folder = trimmed(kind)
    names = {path.name for path in folder.iterdir()}
    assert names <= {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    ours, theirs = TextProcessor.load(folder), AutoTokenizer.from_pretrained(folder)
    first = AutoTokenizer.from_pretrained(original(kind))
    assert theirs.is_fast
    assert len(theirs) == ours.vocabulary_size == len(ours.tokenizer.get_vocab())
    assert sorted(ours.tokenizer.get_vocab().values()) == list(range(len(theirs)))
    assert theirs.pad_token_id == ours.pad_id
    for text in texts(20, seed=3):
        ids = ours.with_specials(ours.encode_text([text])[0])
        assert theirs(text)["input_ids"] == ids.tolist()
        assert theirs.decode(ids) == first.decode(first(text)["input_ids"])
        words = text.split()
        [(inside, _)] = ours.encode_words([words])
        assert (
            theirs(words, is_split_into_words=True)["input_ids"]
            == ours.with_specials(inside).tolist()
        )
    for name in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token", "bos_token"):
        token = getattr(first, name)
        assert getattr(theirs, name) == token
        if token is not None and name != "mask_token":
            assert theirs.convert_tokens_to_ids(token) != theirs.unk_token_id or name == "unk_token"
    decoder = theirs.added_tokens_decoder
    assert {str(one) for one in decoder.values()} == {
        str(one) for one in first.added_tokens_decoder.values()
    }
    assert all(theirs.convert_tokens_to_ids(str(one)) == n for n, one in decoder.items())
    # Saving it again must give the same tokenizer: ids are dense and agree with the library's own.
    with tempfile.TemporaryDirectory() as again:
        theirs.save_pretrained(again)
        assert TextProcessor.load(Path(again)).tokenizer.get_vocab() == ours.tokenizer.get_vocab()


def test_xlmr_keeps_its_four_specials_in_front_and_mask_behind() -> None:
    found = TextProcessor.load(trimmed("unigram")).tokenizer
    assert [found.id_to_token(n) for n in range(4)] == ["<s>", "<pad>", "</s>", "<unk>"]
    assert found.token_to_id("<mask>") == found.get_vocab_size() - 1
    assert found.encode("Kano", "Lagos").ids[0] == 0
    document = json.loads((trimmed("unigram") / "tokenizer.json").read_text())
    assert document["model"]["unk_id"] == 3
    whole = json.loads((original("unigram") / "tokenizer.json").read_text())
    # The price of an unknown character hangs on the lowest score.
    lowest = [min(score for _, score in one["model"]["vocab"]) for one in (whole, document)]
    assert lowest[0] == lowest[1]


@pytest.mark.parametrize("form", ["pairs", "strings"])
def test_bpe_keeps_a_closed_set_of_merges_in_their_form(form: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    document = json.loads((original("byte-bpe") / "tokenizer.json").read_text())
    if form == "strings":
        document["model"]["merges"] = [" ".join(pair) for pair in document["model"]["merges"]]
    (source / "tokenizer.json").write_text(json.dumps(document))
    vocabulary = read_vocabulary(source / "tokenizer.json")
    between = ancestors(vocabulary)
    long = max(vocabulary.ids, key=len)
    assert len(between(long)) > len(long)  # its letters and at least one step between
    kept = minimum(vocabulary, {"all": {long, *vocabulary.added}})
    write_trimmed(vocabulary, kept, source, tmp_path / "new")
    merges = json.loads((tmp_path / "new" / "tokenizer.json").read_text())["model"]["merges"]
    assert all(isinstance(one, str if form == "strings" else list) for one in merges)
    after = TextProcessor.load(tmp_path / "new").tokenizer
    assert after.encode(" " + Tokenizer.from_file(str(source / "tokenizer.json")).decode(
        [vocabulary.ids[long]]).strip(), add_special_tokens=False).tokens == [long]  # fmt: skip


def test_frequent_pieces_first_then_the_order_of_the_original() -> None:
    vocabulary = read_vocabulary(original("wordpiece") / "tokenizer.json")
    least = minimum(vocabulary, needed(vocabulary, {}, "all"))
    free = [piece for piece in vocabulary.ids if piece not in least and "unused" not in piece]
    free.sort(key=vocabulary.ids.__getitem__)
    counts = [{free[9]: 3, free[7]: 5}, {free[9]: 1, free[3]: 99, free[5]: 1}]
    choice = choose(vocabulary, counts, least, keep=len(least) + 3)
    assert choice.used == {free[7], free[9], free[3]}  # the first part goes first
    choice = choose(vocabulary, counts, least, keep=len(least) + 6, min_count=2)
    assert choice.used == {free[7], free[9], free[3]}
    assert choice.filled == set(free[:3])
    assert choose(vocabulary, counts, least, coverage=0.9).used == {free[7], free[9], free[3]}
    assert choose(vocabulary, counts, least, coverage=0.04).used == {free[7]}
    assert choose(vocabulary, counts, least).used == {free[7], free[9], free[3], free[5]}
    everything = choose(vocabulary, counts, least, keep=10**6).kept
    assert vocabulary.ids.keys() - everything == {p for p in vocabulary.ids if "unused" in p}
    with pytest.raises(StageError, match=rf"{len(least)} pieces are needed.*alphabet: scripts"):
        choose(vocabulary, counts, least, keep=len(least) - 1)


def test_alphabets_by_script() -> None:
    vocabulary = read_vocabulary(original("wordpiece") / "tokenizer.json")
    counts = {"ka": 9000, "##ndu": 900, "к": 1, "##о": 1}
    assert scripts_used(vocabulary, counts) == ("LATIN",)
    found = {
        name: needed(vocabulary, counts, name)["characters"]
        for name in ("all", "scripts", "corpus")
    }
    assert found["all"] > found["scripts"] > found["corpus"]
    assert {"中", "ш", "##ш", "K", "%"} <= found["all"]
    assert "中" not in found["scripts"]
    assert not {"ш", "##ш"} & found["scripts"]  # one word does not bring its script
    assert {"к", "##к", "K", "%"} <= found["scripts"]
    assert {"к", "##к", "k", "##u"} <= found["corpus"]
    assert "K" not in found["corpus"]
    assert "##%" not in found["all"]  # the pre-tokenizer sets punctuation apart
    assert [script(c) for c in "aẹ̀Ａ7%ーアሰ"] == [
        *("LATIN", "LATIN", "COMMON", "LATIN", "COMMON", "COMMON"),
        *("KATAKANA-HIRAGANA", "KATAKANA", "ETHIOPIC"),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_corpus_in_another_script_is_refused(kind: str) -> None:
    foreign = [words_example(words=("ሰላም", "ለዓለም")), text_example(text="እንደምን አለህ")]
    source = original(kind)
    vocabulary = read_vocabulary(source / "tokenizer.json")
    found = split(TextProcessor.load(source).tokenizer, foreign)
    [counts] = counts_by_group(found, vocabulary.names, [2])
    with pytest.raises(DataError, match="written in ETHIOPIC and the vocabulary mostly in LATIN"):
        check_readable(vocabulary, counts, foreign)


def test_other_kinds_and_damaged_files_are_refused(tmp_path: Path) -> None:
    from lookup_models import write_tokenizer

    write_tokenizer(tmp_path / "words", ("kano",))
    with pytest.raises(DataError, match="a WordLevel vocabulary cannot be trimmed"):
        read_vocabulary(tmp_path / "words" / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(DataError, match="not a tokenizer that can be read"):
        read_vocabulary(tmp_path / "tokenizer.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_vocabulary(tmp_path / "none.json")


def test_a_wrong_tokenizer_is_caught() -> None:
    """The proof fails when a text all of whose pieces are kept is split otherwise."""
    before, after = both("unigram")
    vocabulary = read_vocabulary(original("unigram") / "tokenizer.json")
    splits = [split(one, CORPUS) for one in (before, after)]
    splits[1].ids[:] = np.roll(splits[1].ids, 1)
    with pytest.raises(StageError, match="although all their pieces are kept"):
        prove(vocabulary, after.get_vocab(), *splits)


def test_words_of_running_text_are_counted() -> None:
    tokenizer = TextProcessor.load(original("unigram")).tokenizer
    found = split(
        tokenizer, [text_example(text="  Kano la\tkano "), words_example(words=("la", "la"))]
    )
    assert found.words == 5
    assert sorted(set(found.word.tolist())) == [0, 1, 2, 3, 4]
    assert split(tokenizer, [text_example(text="")]).words == 0
    assert list(new_ids(read_vocabulary(original("unigram") / "tokenizer.json"), ["<mask>", "<s>"]))
