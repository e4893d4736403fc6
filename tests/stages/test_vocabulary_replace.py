"""vocabulary.replace: a new tokenizer of the same kind divides all text, and rows are means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import small_context
from small_encoders import torch_logits
from trained_tokenizers import DEV, TRAIN, candidate

from edgecompress.errors import StageError
from edgecompress.processors import TextProcessor
from edgecompress.stage import check_stage
from edgecompress.stages.export import Export
from edgecompress.stages.vocabulary.replace import Replace
from edgecompress.surgery.families import word_embedding
from edgecompress.surgery.model import load_module
from edgecompress.surgery.vocabulary.pieces import read_vocabulary
from edgecompress.texts import text_example
from edgecompress.values import Candidate


def table(made: Candidate) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = word_embedding(load_module(made.model)).weight.detach().numpy()
    return found


@pytest.mark.parametrize(
    ("family", "kind", "more"),
    [
        ("Bert", "wordpiece", {}),
        ("Roberta", "byte-bpe", {"bos_token_id": 0, "eos_token_id": 2}),
        ("XLMRoberta", "unigram", {"rows": 512, "bos_token_id": 0, "eos_token_id": 2}),
        ("XLMRoberta", "metaspace-bpe", {"bos_token_id": 1, "eos_token_id": 2}),
    ],
)
def test_every_kind_is_learnt_anew(family: str, kind: str, more: Any, tmp_path: Path) -> None:
    before = candidate(tmp_path, family, kind, **more)
    context = small_context(tmp_path, train=TRAIN[:80], validation=DEV)
    stage = Replace(pieces=400 if "bpe" in kind else 240, alphabet="corpus")
    after = check_stage(stage, before, context)
    decisions = after.steps[-1].decisions
    old, new = (read_vocabulary(one.preprocessor / "tokenizer.json") for one in (before, after))
    assert new.kind == old.kind
    assert set(new.added) == set(old.added)
    assert decisions["sizes"] == [len(old.names), len(new.names)]
    assert len(new.names) <= stage.pieces < len(old.names)
    module = load_module(after.model)
    assert len(table(after)) == module.config.vocab_size == new.places
    names = {**new.ids, **new.added}
    for field in ("pad_token_id", "bos_token_id", "eos_token_id"):
        number = getattr(load_module(before.model).config, field)
        if number is not None:
            assert names[old.names[number]] == getattr(module.config, field)
    assert decisions["read_texts"]["unknown"][1] <= decisions["read_texts"]["unknown"][0]
    # Pieces that both have keep their rows; the others' are means of old rows.
    mine, theirs = table(after), table(before)
    both = names.keys() & {**old.ids, **old.added}.keys()
    for piece in both:
        assert np.array_equal(mine[names[piece]], theirs[{**old.ids, **old.added}[piece]])
    made = [number for piece, number in names.items() if piece not in both]
    assert made
    assert (mine[made].max(0) <= theirs.max(0) + 1e-6).all()
    assert (mine[made].min(0) >= theirs.min(0) - 1e-6).all()
    assert "Replaced" in Replace.tell(after.steps[-1])


def test_a_row_is_the_mean_of_what_stood_for_the_same_letters(tmp_path: Path) -> None:
    """Of the corpus' one word the old tokenizer has pieces, and the new one has one piece."""
    before = candidate(tmp_path, "Bert", "wordpiece")
    old = TextProcessor.load(before.preprocessor).tokenizer
    word = "kanogesha"
    divided = old.encode(word, add_special_tokens=False)
    assert len(divided.ids) > 1
    context = small_context(tmp_path, train=[text_example(text=f"{word} {word}")] * 3)
    after = Replace(pieces=200, alphabet="corpus").apply(before, context)
    new = TextProcessor.load(after.preprocessor).tokenizer
    (number,) = new.encode(word, add_special_tokens=False).ids
    lengths = [end - begin for begin, end in divided.offsets]
    wanted = np.average(table(before)[divided.ids], axis=0, weights=lengths)
    np.testing.assert_allclose(table(after)[number], wanted, atol=1e-6)
    assert after.steps[-1].decisions["read_texts"]["pieces_per_word"] == [len(divided.ids), 1.0]


def test_it_is_taught_by_the_model_that_it_was_and_exports(tmp_path: Path) -> None:
    """Answers are compared by words; the graph takes what the new tokenizer gives."""
    import onnxruntime

    from edgecompress.stages.distil import Distil

    before = candidate(tmp_path, "Bert", "wordpiece")
    context = small_context(tmp_path / "1", train=TRAIN, validation=DEV)
    replaced = Replace(pieces=250, alphabet="corpus").apply(before, context)
    files = replaced.steps[-1].decisions["held_out"]
    assert files["pieces_per_word"][1] > 0
    context = small_context(tmp_path / "2", train=TRAIN, validation=DEV, teacher=before)
    taught = Distil(epochs=1, relation_weight=1.0).apply(replaced, context)
    assert taught.steps[-1].decisions["words"]["compared_whole"] > 0
    exported = Export().apply(taught, small_context(tmp_path / "3", train=TRAIN))
    session = onnxruntime.InferenceSession(exported.model.path)
    expected, feeds = torch_logits(taught, DEV, tuple(one.name for one in session.get_inputs()))
    for one, feed in zip(expected, feeds, strict=True):
        np.testing.assert_allclose(session.run(None, feed)[0], one, atol=1e-4)


@pytest.mark.parametrize(("pieces", "says"), [(400, "has only"), (20, "must stay")])
def test_sizes_that_cannot_be_are_refused(pieces: int, says: str, tmp_path: Path) -> None:
    before = candidate(tmp_path, "Bert", "wordpiece")
    with pytest.raises(StageError, match=says):
        Replace(pieces=pieces).apply(before, small_context(tmp_path, train=TRAIN))
