"""Student's and teacher's rows side by side, against a slow reading of the rules."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_models import write_sentence_model
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from edgecompress.processors import processor_class
from edgecompress.processors.text import TextProcessor
from edgecompress.tasks import task
from edgecompress.tasks.rows import input_ids
from edgecompress.texts import text_example, text_of, words_example, words_of
from edgecompress.training.align import align, runs
from edgecompress.training.rows import TorchRows
from edgecompress.values import Example

LETTERS = "abcd"
LABELS = {"token-classification": ("O", "B"), "text-classification": ("x", "y")}


def wordpiece(extra, max_length=12, order=1):
    """A WordPiece tokenizer of all letters and some longer pieces."""
    single = [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *[*single, *extra][::order]]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _preprocessor(tokenizer, vocabulary, max_length, str((extra, order)))


def unigram(extra, max_length=12):
    """A SentencePiece-like tokenizer, whose pieces begin with the blank before a word."""
    pieces = ["<pad>", "<unk>", "[CLS]", "[SEP]", "▁", *LETTERS, *extra]
    scored = [(piece, -1.0 * len(LETTERS)) for piece in dict.fromkeys(pieces)]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=1))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    vocabulary = {piece: index for index, (piece, _) in enumerate(scored)}
    return _preprocessor(tokenizer, vocabulary, max_length, f"unigram{extra}")


def _preprocessor(tokenizer, vocabulary, max_length, digest):
    specials = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, specials)
    return TextProcessor(
        tokenizer=tokenizer,
        max_length=max_length,
        pad_id=0,
        input_names=("input_ids", "attention_mask"),
        prefix=(vocabulary["[CLS]"],),
        suffix=(vocabulary["[SEP]"],),
        token_types=(0, 0, 0),
        digest=f"{digest}{max_length}",
    )


def rows_of(examples, preprocessor, name):
    found = task(name)
    encoded = found.rows(examples, preprocessor, LABELS[name])
    return TorchRows(
        encoded.rows, examples, found, preprocessor, LABELS[name], preprocessor.input_names
    )


def pieces_of(rows):
    """Slowly: for each row its pieces' texts and, by blank-separated word, their places."""
    found, at = [], {}
    for row, ids in enumerate(input_ids(rows)):
        number = int(rows.example[row])
        example = rows.examples[number]
        text = [rows.processor.tokenizer.id_to_token(int(i)) for i in ids]
        words = {}
        if words_of(example):
            pieces = rows.processor.tokenizer.encode(
                list(words_of(example)), is_pretokenized=True, add_special_tokens=False
            )
            owners = list(pieces.word_ids)
        else:
            pieces = rows.processor.tokenizer.encode(text_of(example), add_special_tokens=False)
            owners = [
                len(text_of(example)[:stop].split()) - (not text_of(example)[stop - 1].isspace())
                for _, stop in pieces.offsets
            ]
        begin = at.get(number, 0)
        if words_of(example) and len(rows.rows[row].place["words"]):
            begin = owners.index(int(rows.rows[row].place["words"][0]))
        for place in range(1, len(ids) - 1):
            words.setdefault(owners[begin + place - 1], []).append(place)
        at[number] = begin + len(ids) - 2
        totals = {word: owners.count(word) for word in words}
        whole = {word for word, places in words.items() if len(places) == totals[word]}
        found.append((number, text, words, whole))
    return found


def slow_spans(ours, its):
    """AlignedSpans as a set of (row, student's places, teacher's row, its places)."""
    mine, other = pieces_of(ours), pieces_of(its)
    found = set()
    for row, (number, text, words, whole) in enumerate(mine):
        for there, (its_number, its_text, its_words, its_whole) in enumerate(other):
            if number != its_number:
                continue
            for word in whole & its_whole:
                left, right = words[word], its_words[word]
                if [text[i] for i in left] == [its_text[i] for i in right]:
                    found |= {(row, (a,), there, (b,)) for a, b in zip(left, right, strict=True)}
                else:
                    found.add((row, tuple(left), there, tuple(right)))
    return found


def fast_spans(units, its, specials):
    starts = np.concatenate([[0], np.cumsum(its.lengths)])
    found = set()
    for i in range(len(units.row)):
        there = int(np.searchsorted(starts, units.its[i], side="right")) - 1
        at = int(units.its[i] - starts[there])
        left = tuple(range(units.ours[i], units.ours[i] + units.ours_count[i]))
        right = tuple(range(at, at + units.its_count[i]))
        special = left == (0,) or right == (int(its.lengths[there]) - 1,)
        if special == specials:
            found.add((int(units.row[i]), left, there, right))
    return found


WORDS = st.text(LETTERS, min_size=1, max_size=6)
EXTRA = st.lists(WORDS.filter(lambda w: len(w) > 1).map(lambda w: f"##{w}") | WORDS, max_size=8)
TEXTS = st.lists(st.lists(WORDS, min_size=1, max_size=8), min_size=1, max_size=4)


@settings(max_examples=80, deadline=None)
@given(TEXTS, EXTRA, EXTRA, st.sampled_from([1, -1]), st.sampled_from([6, 12, 40]), st.booleans())
def test_tags_are_aligned_as_the_slow_way_does(texts, extra, other, order, longest, sentencepiece):
    examples = tuple(words_example(words=tuple(words)) for words in texts)
    ours = rows_of(examples, wordpiece(extra, longest), "token-classification")
    teacher = unigram([f"▁{p}" for p in other]) if sentencepiece else wordpiece(other, 12, order)
    its = rows_of(examples, teacher, "token-classification")
    found = align(ours, its, np.arange(len(examples)))
    assert fast_spans(found.spans, its, specials=False) == slow_spans(ours, its)
    # Every word has its first piece somewhere on either side.
    answers = found.answers
    assert len(answers.row) == sum(len(words) for words in texts)
    starts = np.concatenate([[0], np.cumsum(its.lengths)])
    for row, at, flat in zip(answers.row, answers.ours, answers.its, strict=True):
        word = np.flatnonzero(ours.rows[row].place["positions"] == at)
        there = int(np.searchsorted(starts, flat, side="right")) - 1
        its_word = np.flatnonzero(its.rows[there].place["positions"] == flat - starts[there])
        assert (
            ours.rows[row].place["words"][word] == its.rows[there].place["words"][its_word]
        ).all()


@settings(max_examples=60, deadline=None)
@given(TEXTS, EXTRA, EXTRA, st.sampled_from([6, 12, 40]), st.booleans())
def test_texts_are_aligned_as_the_slow_way_does(texts, extra, other, longest, sentencepiece):
    examples = tuple(text_example(text=" ".join(words)) for words in texts)
    ours = rows_of(examples, wordpiece(extra, longest), "text-classification")
    teacher = unigram([f"▁{p}" for p in other]) if sentencepiece else wordpiece(other)
    its = rows_of(examples, teacher, "text-classification")
    found = align(ours, its, np.arange(len(examples)))
    assert fast_spans(found.spans, its, specials=False) == slow_spans(ours, its)
    assert len(found.answers.row) == 0
    for row, number in enumerate(ours.example):
        beside = np.arange(found.first_row[row], found.first_row[row] + found.row_count[row])
        assert len(beside)
        assert (its.example[beside] == number).all()


def test_the_same_tokenizer_is_token_beside_token():
    examples = tuple(
        words_example(words=tuple(words)) for words in (["ab", "c"], ["d"], ["abcd", "a"])
    )
    rows = rows_of(examples, wordpiece([]), "token-classification")
    found = align(rows, rows, np.arange(3))
    every = int(rows.lengths.sum())
    assert len(found.spans.row) == every
    assert found.spans.its.tolist() == list(range(every))
    assert (found.spans.ours_count == 1).all()
    assert (found.pooled, found.left_out) == (0, 0)
    # A teacher that was asked about some examples only.
    some = rows_of((examples[2],), wordpiece([]), "token-classification")
    found = align(rows, some, np.array([2]))
    assert set(found.spans.row.tolist()) == {2}
    assert found.row_count.tolist() == [0, 0, 1]
    assert found.spans.its.tolist() == list(range(7))


def test_what_trimming_changes_is_pooled_and_the_rest_stays_exact():
    examples = (words_example(words=("abcd", "ab", "cd")), words_example(words=("dd", "ab")))
    whole, trimmed = wordpiece(["abcd", "ab", "##bc"]), wordpiece(["ab", "##bc"], order=-1)
    ours = rows_of(examples, trimmed, "token-classification")
    its = rows_of(examples, whole, "token-classification")
    found = align(ours, its, np.arange(2))
    # [CLS] ab ##c ##d ab c ##d [SEP] beside [CLS] abcd ab c ##d [SEP]
    batch = found.spans.of(np.array([1, 0]))
    assert batch.starts.tolist() == [0, 5, 11]
    assert batch.ours[5:].tolist() == [0, 1, 4, 5, 6, 7]
    assert batch.ours_count[5:].tolist() == [1, 3, 1, 1, 1, 1]
    assert batch.its[5:].tolist() == [0, 1, 2, 3, 4, 5]
    assert found.pooled == 1


def test_a_word_that_one_side_cuts_off_is_left_out():
    examples = (words_example(words=("abcdabcd", "a")),)
    ours = rows_of(examples, wordpiece([], max_length=6), "token-classification")
    its = rows_of(examples, wordpiece(["abcdabcd"], max_length=6), "token-classification")
    found = align(ours, its, np.arange(1))
    assert found.left_out == 1
    assert len(found.answers.row) == 2
    assert found.spans.ours_count.max() == 1


@pytest.mark.parametrize("given", [([5, 0], [2, 3]), ([], []), ([3, 1, 9], [1, 0, 2])])
def test_runs(given):
    starts, counts = (np.array(part, dtype=np.int64) for part in given)
    expected = [s + i for s, c in zip(starts, counts, strict=True) for i in range(c)]
    assert runs(starts, counts).tolist() == expected


def test_each_text_of_an_example_is_aligned_by_itself(tmp_path):
    """Two rows of an example, one of them cut off: every word of both stands beside its own."""
    made = []
    for limit in (None, 6):
        folder = tmp_path / str(limit)
        write_sentence_model(tmp_path / f"{limit}-st", limit=limit)
        folder.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(tmp_path / f"{limit}-st" / name, folder / name)
        task("feature-extraction").take_files(tmp_path / f"{limit}-st", folder)
        processor = processor_class("sentences").load(folder)
        examples = [
            Example({"text": "amina je leo", "text_pair": "na dey waka ta kano je"}),
            Example({"text": "leo"}),
        ]
        rows = task("feature-extraction").rows(examples, processor, ())
        made.append(
            TorchRows(rows.rows, examples, rows.task, processor, (), input_names=("input_ids",))
        )
    ours, its = made[1], made[0]
    found = align(ours, its, np.arange(2))
    begin = np.concatenate([[0], np.cumsum(its.lengths)])
    for row, at, there in zip(found.spans.row, found.spans.ours, found.spans.its, strict=True):
        other = there - begin[row]
        assert 0 <= other < its.lengths[row]
        assert ours.rows[row].feed["input_ids"][at] == its.rows[row].feed["input_ids"][other]
    # [CLS] and [SEP] are paired where the rows hold the same words: not where one is cut off.
    assert np.bincount(found.spans.row).tolist() == [5, 4, 3]
