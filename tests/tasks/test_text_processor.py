"""The tokenizer's files are read as transformers reads them, without it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from edgecompress.errors import DataError
from edgecompress.processors import TextProcessor

WORDS = ["Rais", "wa", "Kenya", "aliwasili", "Nairobi", ",", "zzz"]


def test_same_ids_as_transformers(wordpiece_folder: Path, preprocessor: TextProcessor) -> None:
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(
        tokenizer_file=str(wordpiece_folder / "tokenizer.json"), pad_token="[PAD]"
    )
    expected = theirs(WORDS, is_split_into_words=True)
    ((ids, words),) = preprocessor.encode_words([WORDS])
    assert preprocessor.with_specials(ids).tolist() == expected["input_ids"]
    assert [None, *words.tolist(), None] == expected.word_ids()
    (ids,) = preprocessor.encode_text([" ".join(WORDS)])
    assert preprocessor.with_specials(ids).tolist() == theirs(" ".join(WORDS))["input_ids"]


def test_settings_are_read(preprocessor: TextProcessor) -> None:
    assert preprocessor.max_length == 512
    assert preprocessor.capacity == 510
    assert preprocessor.input_names == ("input_ids", "attention_mask")
    assert preprocessor.pad_id == preprocessor.tokenizer.token_to_id("[PAD]")
    assert (preprocessor.prefix, preprocessor.suffix) == ((2,), (3,))
    assert preprocessor.vocabulary_size == 120


@pytest.mark.parametrize("absurd", [10**30, 1e30, 0, -1, None, "long", True])
def test_absurd_length_is_512(wordpiece_folder: Path, tmp_path: Path, absurd: object) -> None:
    text = (wordpiece_folder / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(text)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": absurd}))
    assert TextProcessor.load(tmp_path).max_length == 512


def test_config_may_be_missing_and_names_are_taken(wordpiece_folder: Path, tmp_path: Path) -> None:
    text = (wordpiece_folder / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(text)
    without = TextProcessor.load(tmp_path)
    assert without.max_length == 512
    names = ["input_ids", "token_type_ids", "attention_mask"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_input_names": names}))
    found = TextProcessor.load(tmp_path)
    assert found.input_names == tuple(names)
    assert found.digest != without.digest


def test_truncation_and_padding_of_the_file_are_off(wordpiece_folder: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(wordpiece_folder / "tokenizer.json"))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=64, pad_id=7)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    found = TextProcessor.load(tmp_path)
    (ids,) = found.encode_text([" ".join(WORDS)])
    assert 4 < len(ids) < 64


def test_byte_level_with_roberta_specials(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    special = ["<s>", "<pad>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["Rais wa Kenya"], trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    found = TextProcessor.load(tmp_path)
    assert (found.prefix, found.suffix, found.pad_id) == ((0,), (2,), 1)
    ((ids, words),) = found.encode_words([["Rais", "wa", "ẹ̀"]])
    assert set(words.tolist()) == {0, 1, 2}
    assert len(ids) == len(words)


def test_no_specials_and_segments(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "[X]": 2}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    found = TextProcessor.load(tmp_path)
    assert (found.prefix, found.suffix) == ((), ())
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A:0 [X]:2", special_tokens=[("[X]", 2)]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    found = TextProcessor.load(tmp_path)
    assert found.suffix == (2,)
    assert found.segment_ids(4).tolist() == [0, 0, 0, 2]


def test_words_without_pieces_keep_their_place(preprocessor: TextProcessor) -> None:
    ((_, words),) = preprocessor.encode_words([["\u00a0", "Rais", "", "\ufe0f", "wa", "\u200b"]])
    assert set(words.tolist()) == {1, 4}
    assert np.all(np.diff(words) >= 0)


def test_many_sentences_keep_their_order(preprocessor: TextProcessor) -> None:
    sentences = [["Rais"] * (i % 3) for i in range(2500)]
    pieces = preprocessor.encode_words(sentences)
    assert [len(set(words.tolist())) for _, words in pieces] == [i % 3 for i in range(2500)]


def test_bad_folders_are_named(tmp_path: Path, wordpiece_folder: Path) -> None:
    with pytest.raises(DataError, match=r"tokenizer\.json: the tokenizer is missing"):
        TextProcessor.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="not a tokenizer that can be read"):
        TextProcessor.load(tmp_path)
    text = (wordpiece_folder / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(text)
    (tmp_path / "tokenizer_config.json").write_text("[1")
    with pytest.raises(DataError, match=r"tokenizer_config\.json:1: cannot be read as JSON"):
        TextProcessor.load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(DataError, match="must be a JSON object"):
        TextProcessor.load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 2}')
    with pytest.raises(DataError, match="leaves no room"):
        TextProcessor.load(tmp_path)


def test_lone_surrogate_is_refused(preprocessor: TextProcessor) -> None:
    with pytest.raises(DataError, match="lone surrogates"):
        preprocessor.encode_text(["a\ud800"])
    with pytest.raises(DataError, match="lone surrogates"):
        preprocessor.encode_words([["a\ud800"]])


def bert(*, lowercase: bool, added: AddedToken | str = "[MASK]") -> TextProcessor:
    """A tokenizer of BERT's kind, with a few pieces."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdeABCDE1.,-'é", *(f"##{c}" for c in "abcé1")]
    found = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    found.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    found.add_special_tokens([added])
    return TextProcessor(found, 512, 0, ("input_ids",), (2,), (3,), (0, 0, 0), "")


BERTS = {lowercase: bert(lowercase=lowercase) for lowercase in (True, False)}
CHARACTERS = st.one_of(
    st.sampled_from("abcABé1.,-' \t\n\x00\x85\u0301\u200b\u3000中ǅİ[]"),
    st.characters(codec="utf-8"),
)


@given(st.lists(st.text(CHARACTERS, max_size=6), max_size=8), st.booleans())
@example(["a[MASK]b", "[MASK]", "[", "MASK", "]"], False)
@example(["e", "\u0301a", "", " ", "b\u0301\u0316"], True)
def test_words_of_one_text_have_the_pieces_of_each_alone(words: list[str], lowercase: bool) -> None:
    text = BERTS[lowercase]
    assert text._words_stand_alone
    ((ids, places),) = text.encode_words([words])
    alone = text.tokenizer.encode(words, is_pretokenized=True, add_special_tokens=False)
    assert ids.tolist() == alone.ids
    assert places.tolist() == alone.word_ids
    assert ids.dtype == places.dtype == np.int64


@pytest.mark.parametrize("added", [AddedToken("a b"), AddedToken("<m>", lstrip=True)])
def test_words_are_encoded_apart_where_an_added_token_may_span_two(added: AddedToken) -> None:
    text = bert(lowercase=True, added=added)
    assert not text._words_stand_alone
    words = ["a", "b", "<m>", "c"]
    ((ids, places),) = text.encode_words([words])
    alone = text.tokenizer.encode(words, is_pretokenized=True, add_special_tokens=False)
    assert (ids.tolist(), places.tolist()) == (alone.ids, alone.word_ids)


@given(st.integers(1, 5), st.integers(0, 9))
def test_a_row_alone_is_the_row_of_a_batch(length: int, longer: int) -> None:
    text = BERTS[True]
    names = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
    row, other = ({"input_ids": np.arange(2, 2 + n)} for n in (length, length + longer))
    both, alone = text.batch([row, other], names), text.batch([row], names)
    assert dict.fromkeys(names, (1, length)) == {k: v.shape for k, v in alone.items()}
    for name in names:
        assert alone[name].dtype == both[name].dtype
        assert np.array_equal(alone[name][0], both[name][0, :length])
