"""How passages are read, as a recipe or a file says it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lookup_models import write_tokenizer
from trained_tokenizers import write as trained

from edgecompress.errors import DataError
from edgecompress.processors.passages import FILE, PassageProcessor, PassageSettings


def test_what_is_said_stands_beside_the_tokenizer(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    write_tokenizer(folder, ("je", "na"))
    plain = PassageProcessor.load(folder)
    assert plain.settings == PassageSettings()
    PassageProcessor.settle({"doc_stride": 5, "max_seq_len": 8}, folder)
    PassageProcessor.settle({"no_answer_threshold": None}, folder)  # the others stay
    found = PassageProcessor.load(folder)
    assert found.settings == PassageSettings(8, 5, no_answer_threshold=None)
    assert found.max_length == 8 < plain.max_length
    assert found.digest != plain.digest


def test_it_stays_where_the_vocabulary_is_cut(tmp_path: Path) -> None:
    from edgecompress.surgery.vocabulary.files import write_trimmed
    from edgecompress.surgery.vocabulary.pieces import read_vocabulary

    folder = trained("wordpiece", tmp_path / "made")
    PassageProcessor.settle({"doc_stride": 5}, folder)
    vocabulary = read_vocabulary(folder / "tokenizer.json")
    write_trimmed(vocabulary, vocabulary.names.values(), folder, tmp_path / "less")
    assert PassageProcessor.load(tmp_path / "less").settings.doc_stride == 5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"doc_strid": 3}, "no setting 'doc_strid' of passages; did you mean 'doc_stride'"),
        ({"doc_stride": -1}, "doc_stride must be a number of tokens from 0"),
        ({"max_answer_len": 0}, "max_answer_len must be a number of tokens from 1"),
        ({"max_question_len": True}, "max_question_len must be a number"),
        ({"max_seq_len": 1.5}, "max_seq_len must be a number"),
        ({"no_answer_threshold": "0"}, "no_answer_threshold must be a number, or null"),
        ({"no_answer_threshold": float("nan")}, "no_answer_threshold must be a number, or null"),
    ],
)
def test_what_is_wrong_is_named(settings: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        PassageProcessor.check_description(settings)
    folder = tmp_path / "made"
    write_tokenizer(folder, ("je", "na"))
    (folder / FILE).write_text(json.dumps(settings))
    with pytest.raises(DataError, match=rf"{FILE}: "):
        PassageProcessor.load(folder)
