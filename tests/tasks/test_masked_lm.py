"""Hidden words: always the same ones, whole, scored the same for every tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from edgecompress.errors import DataError
from edgecompress.processors import TextProcessor
from edgecompress.tasks import task
from edgecompress.tasks.masked_lm import MaskedLM, hidden_words, mask_id
from edgecompress.tasks.rows import IGNORED, input_ids
from edgecompress.tasks.scoring import counts_of
from edgecompress.texts import text_example, words_example
from edgecompress.values import Example

PIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", ".", "ka", "##no", "leo", "na", "sa")
TEXTS = ("Kano, leo na sa", "leo leo leo leo leo leo leo leo leo leo leo leo kano.", "sa")


def preprocessor(folder: Path, pieces: tuple[str, ...] = PIECES, length: int = 16) -> TextProcessor:
    from transformers import PreTrainedTokenizerFast

    found = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    found.normalizer = normalizers.Lowercase()
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=found, model_max_length=length, pad_token="[PAD]"
    )
    fast.save_pretrained(folder)
    return TextProcessor.load(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> TextProcessor:
    return preprocessor(tmp_path_factory.mktemp("tokenizer"))


def examples(*texts: str) -> list[Example]:
    return [text_example(text=text, source="hau") for text in texts]


def encode(found: TextProcessor, *texts: str):
    return task("masked-lm").rows(examples(*texts), found, ())


def test_words_are_hidden_whole_and_always_the_same(small: TextProcessor):
    encoded = encode(small, *TEXTS)
    mask = mask_id(small)
    for row, text in enumerate(TEXTS):
        asked = hidden_words(text)
        assert len(asked) == max(1, round(0.15 * len(text.split())))
        at = encoded.rows[row].place["positions"]
        hidden = encoded.rows[row].feed["input_ids"][at] == mask
        assert np.array_equal(hidden, np.isin(encoded.rows[row].place["words"], asked))
        assert np.array_equal(hidden, encoded.rows[row].target["labels"][at] != IGNORED)
    again = encode(small, *TEXTS[::-1])
    assert all(
        np.array_equal(a, b)
        for a, b in zip(input_ids(encoded), input_ids(again)[::-1], strict=True)
    )


def test_words_that_are_given_are_running_text(small: TextProcessor):
    words = task("masked-lm").rows([words_example(words=("Kano,", "leo"))], small, ())
    text = encode(small, "Kano, leo")
    assert np.array_equal(words.rows[0].feed["input_ids"], text.rows[0].feed["input_ids"])
    assert words.rows[0].place["words"].tolist() == [0, 0, 0, 1]


def test_long_texts_are_divided_between_words(tmp_path: Path):
    encoded = encode(preprocessor(tmp_path, length=5), "kano leo kano leo kano leo")
    assert encoded.lengths.max() <= 5
    starts = [row.place["words"][0] for row in encoded]
    ends = [row.place["words"][-1] for row in encoded]
    assert starts[1:] == [end + 1 for end in ends[:-1]] and ends[-1] == 5


def perfect(encoded, vocabulary: int, height: float = 20.0) -> list[np.ndarray]:
    found = []
    for label in (row.target["labels"] for row in encoded):
        logits = np.zeros((len(label), vocabulary), np.float32)
        at = np.flatnonzero(label != IGNORED)
        logits[at, label[at]] = height
        found.append(logits)
    return found


def test_a_perfect_model_guesses_every_word(small: TextProcessor):
    kind, given = task("masked-lm"), examples(*TEXTS)
    encoded = encode(small, *TEXTS)
    answers = kind.decode(perfect(encoded, len(PIECES)), encoded)
    split = [[text.split()[n] for n in hidden_words(text)] for text in TEXTS]
    assert [list(words) for words in answers.labels] == split  # as they stand in the text
    scores = {(s.metric, s.slice): s.value for s in kind.score(answers, given, ())}
    assert scores["accuracy", None] == scores["accuracy", "file:hau"] == 1
    assert scores["likelihood", None] == pytest.approx(1, abs=1e-4)


def test_a_model_that_knows_nothing_gives_every_piece_the_same(small: TextProcessor):
    kind = task("masked-lm")
    encoded = encode(small, "leo na sa leo na sa")
    logits = [np.zeros((len(ids), len(PIECES)), np.float32) for ids in input_ids(encoded)]
    answers = kind.decode(logits, encoded)
    scores = {s.metric: s.value for s in kind.score(answers, examples("leo na sa leo na sa"), ())}
    assert scores["likelihood"] == pytest.approx(1 / len(PIECES))
    assert scores["accuracy"] == 0 and answers.labels[0] == ("",)


def test_logits_may_be_compacted_before_they_are_read(small: TextProcessor):
    kind, encoded = task("masked-lm"), encode(small, *TEXTS)
    random = np.random.default_rng(0)
    logits = [random.normal(size=(len(ids), len(PIECES))) for ids in input_ids(encoded)]
    whole = kind.decode(logits, encoded)
    kept = [kind.compact(one, row) for row, one in zip(encoded, logits, strict=True)]
    assert all(one.shape[1] == 2 for one in kept)
    part = kind.decode(kept, encoded)
    assert whole.labels == part.labels
    assert all(np.allclose(a, b) for a, b in zip(whole.confidence, part.confidence, strict=True))


def test_resampled_likelihood_is_that_of_the_score(small: TextProcessor):
    kind, encoded = task("masked-lm"), encode(small, *TEXTS)
    random = np.random.default_rng(1)
    logits = [random.normal(size=(len(ids), len(PIECES))) for ids in input_ids(encoded)]
    answers = kind.decode(logits, encoded)
    counts = counts_of(kind.metrics[0], answers, examples(*TEXTS))
    scored = kind.score(answers, examples(*TEXTS), ())[0]
    assert scored.metric == kind.metrics[0].name == "likelihood"
    assert counts is not None and kind.metrics[0].value is not None
    assert float(kind.metrics[0].value(counts.sum(0))) == pytest.approx(scored.value)


def test_compact_logits_are_log_probabilities():
    logits = np.array([[0.0, 1.0, 2.0], [1000.0, 0.0, 0.0]])
    found = MaskedLM().compact_at(logits, np.array([1, 0]))
    assert found[0, 0] == pytest.approx(1 - np.log(1 + np.e + np.e**2))
    assert found[1, 0] == pytest.approx(0) and found[:, 1].tolist() == [2, 0]


def test_a_tokenizer_without_a_mask_is_refused(tmp_path: Path):
    found = preprocessor(tmp_path, tuple(piece for piece in PIECES if piece != "[MASK]"))
    with pytest.raises(DataError, match="no mask token"):
        encode(found, "leo")


def test_pieces_know_their_word_where_blanks_are_pieces(tmp_path: Path):
    from transformers import PreTrainedTokenizerFast

    vocabulary = [("<unk>", 0.0), ("▁", -1.0), ("▁leo", -1.0), ("na", -1.0), ("<mask>", -1.0)]
    found = Tokenizer(models.Unigram(vocabulary, unk_id=0))
    found.pre_tokenizer = pre_tokenizers.Metaspace()
    PreTrainedTokenizerFast(tokenizer_object=found).save_pretrained(tmp_path)
    ((ids, words),) = TextProcessor.load(tmp_path).encode_text_words(["leo na  nana"])
    assert [found.id_to_token(i) for i in ids] == ["▁leo", "▁", "na", "▁", "▁", "na", "na"]
    assert words.tolist() == [0, 1, 1, 2, 2, 2, 2]
