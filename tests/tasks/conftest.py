"""Tokenizers that the tests train themselves, saved as transformers would."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from edgecompress.processors import TextProcessor

CORPUS = [
    "Shugaban kasar Najeriya ya isa birnin Abuja a ranar Litinin",
    "Rais wa Kenya aliwasili Nairobi siku ya Jumatatu pamoja na mawaziri",
    "Di president don land for Lagos yesterday with im people",
    "a - , . ( ) 1 2 3",
] * 3


def wordpiece(folder: Path, max_length: int | float = 512) -> Path:
    """BERT's kind: word pieces between [CLS] and [SEP], control characters dropped."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    config = {"model_max_length": max_length, "pad_token": "[PAD]"}
    return save(tokenizer, folder, config)


def save(tokenizer: Tokenizer, folder: Path, config: dict[str, object]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def wordpiece_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wordpiece(tmp_path_factory.mktemp("wordpiece"))


@pytest.fixture(scope="session")
def preprocessor(wordpiece_folder: Path) -> TextProcessor:
    return TextProcessor.load(wordpiece_folder)


@pytest.fixture(scope="session")
def make_preprocessor(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[int | float], TextProcessor]:
    """Give the word piece tokenizer with another maximal length."""

    def make(max_length: int | float) -> TextProcessor:
        return TextProcessor.load(wordpiece(tmp_path_factory.mktemp("made"), max_length))

    return make
