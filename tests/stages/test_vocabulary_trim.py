"""vocabulary.trim: the model keeps its answers on what it keeps, in every family and kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import small_context
from pydantic import ValidationError
from small_encoders import torch_logits
from trained_tokenizers import DEV, TRAIN, candidate, texts

from edgecompress.errors import DataError, StageError
from edgecompress.stage import check_stage
from edgecompress.stages.export import Export
from edgecompress.stages.vocabulary.trim import Trim
from edgecompress.surgery.families import word_embedding
from edgecompress.surgery.model import load_module
from edgecompress.surgery.vocabulary.embedding import keep_pieces
from edgecompress.texts import text_example, words_example


@pytest.mark.parametrize(
    ("family", "kind", "more"),
    [
        ("Bert", "wordpiece", {}),
        ("Electra", "wordpiece", {"embedding_size": 16}),
        ("Roberta", "byte-bpe", {"bos_token_id": 0, "eos_token_id": 2}),
        ("XLMRoberta", "unigram", {"rows": 512, "bos_token_id": 0, "eos_token_id": 2}),
        ("XLMRoberta", "metaspace-bpe", {"bos_token_id": 1, "eos_token_id": 2}),
    ],
)
def test_answers_stay_where_pieces_stay(family: str, kind: str, more: Any, tmp_path: Path) -> None:
    """On the corpus nothing changes; the pieces that it lacks are gone for good."""
    before = candidate(tmp_path, family, kind, **more)
    context = small_context(tmp_path, train=TRAIN, validation=DEV)
    after = check_stage(Trim(), before, context)
    decisions = after.steps[-1].decisions
    old, new = decisions["rows"]
    assert old == more.get("rows", decisions["pieces"][0])
    assert new == decisions["pieces"][1] < decisions["pieces"][0]
    module = load_module(after.model)
    assert len(word_embedding(module).weight) == module.config.vocab_size == new
    shrunk = decisions["embedding_bytes"]
    assert shrunk[1] * old == shrunk[0] * new
    assert decisions["corpus"]["texts_split_otherwise"] == 0
    assert decisions["held_out"]["words_split_otherwise"] > 0
    assert decisions["held_out"]["pieces_per_word"][1] > decisions["held_out"]["pieces_per_word"][0]
    names = ("input_ids", "attention_mask")
    expected, _ = torch_logits(before, TRAIN, names)
    found, _ = torch_logits(after, TRAIN, names)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)


def test_it_exports_and_learns(tmp_path: Path) -> None:
    """The trimmed model runs in ONNX Runtime, and trains, with its own tokenizer."""
    import onnxruntime

    from edgecompress.stages.finetune import Finetune

    before = candidate(tmp_path, "Bert", "wordpiece")
    trimmed = Trim(keep=200).apply(
        before, small_context(tmp_path / "1", train=TRAIN, validation=DEV)
    )
    assert trimmed.steps[-1].decisions["pieces"][1] == 200
    learnt = Finetune(epochs=1).apply(
        trimmed, small_context(tmp_path / "2", train=TRAIN, validation=DEV)
    )
    assert learnt.preprocessor == trimmed.preprocessor
    exported = Export().apply(learnt, small_context(tmp_path / "3", train=TRAIN))
    session = onnxruntime.InferenceSession(exported.model.path)
    expected, feeds = torch_logits(learnt, DEV, tuple(one.name for one in session.get_inputs()))
    for one, feed in zip(expected, feeds, strict=True):
        assert feed["input_ids"].max() < 200
        np.testing.assert_allclose(session.run(None, feed)[0], one, atol=1e-4)


def test_same_inputs_same_files(tmp_path: Path) -> None:
    before = candidate(tmp_path, "Bert", "wordpiece")
    made = [
        Trim(keep=210).apply(before, small_context(tmp_path / name, train=TRAIN))
        for name in ("a", "b")
    ]
    first, second = (
        {p.name: p.read_bytes() for folder in (c.preprocessor, c.model.directory)
         for p in folder.iterdir()}
        for c in made
    )  # fmt: skip
    assert first == second
    assert made[0].steps[-1].decisions == made[1].steps[-1].decisions
    assert made[0].steps[-1].decisions["held_out"] is None


def test_files_as_corpus_and_what_they_change(tmp_path: Path) -> None:
    before = candidate(tmp_path, "Bert", "wordpiece")
    file = tmp_path / "more.txt"
    file.write_text("\n".join(texts(50, seed=9)), encoding="utf-8")
    sizes = {}
    for name, corpus in (("train", ["train"]), ("file", [file]), ("both", ["train", str(file)])):
        stage = Trim(corpus=corpus)
        stage.check_inputs()
        assert str(tmp_path) not in json.dumps(stage.identity())
        made = check_stage(stage, before, small_context(tmp_path / name, train=TRAIN))
        sizes[name] = made.steps[-1].decisions["pieces"][1]
    assert sizes["both"] > max(sizes["train"], sizes["file"])
    with pytest.raises(DataError, match="there are no training examples"):
        Trim().apply(before, small_context(tmp_path / "none"))


def test_words_that_are_scored_lose_their_rows_too() -> None:
    """A masked-language-model head, tied or not, and its bias keep the rows of what is kept."""
    import torch
    import transformers

    kept = [0, 3, 4, 9, 20, 39]
    names = ("Bert", "XLMRoberta", "Electra", "Albert", "DistilBert", "ModernBert")
    for family, tied in (("Bert", False), *((name, True) for name in names)):
        slim = {"dim": 16, "hidden_dim": 16, "n_heads": 2, "n_layers": 1}
        config = getattr(transformers, f"{family}Config")(
            vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=16, pad_token_id=0, tie_word_embeddings=tied, embedding_size=8,
            bos_token_id=None, eos_token_id=None, cls_token_id=None, sep_token_id=None,
            **(slim if family == "DistilBert" else {}),
        )  # fmt: skip
        torch.manual_seed(0)
        module = getattr(transformers, f"{family}ForMaskedLM")(config).eval()
        torch.nn.init.normal_(module.get_output_embeddings().bias)
        ids = torch.tensor([[3, 20, 9, 39]])
        with torch.no_grad():
            expected = module(ids).logits[..., kept]
            keep_pieces(module, kept)
            found = module(torch.tensor([[1, 4, 3, 5]])).logits
        torch.testing.assert_close(found, expected)
        output = module.get_output_embeddings()
        assert (output.weight is module.get_input_embeddings().weight) == tied
        assert output.out_features == len(kept)
        module.train()(torch.tensor([[1, 4]]), labels=torch.tensor([[2, 5]])).loss.backward()


def test_positions_move_with_the_padding_id() -> None:
    """RoBERTa numbers positions from behind the padding id: the same rows must be read."""
    import torch
    import transformers

    config = transformers.RobertaConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, pad_token_id=5, bos_token_id=6, eos_token_id=7,
        max_position_embeddings=20,
    )  # fmt: skip
    torch.manual_seed(0)
    module = transformers.RobertaForTokenClassification(config).eval()
    ids = torch.tensor([[6, 10, 7, 5], [6, 12, 10, 7]])
    mask = (ids != 5).long()
    kept = [2, 5, 6, 7, 10, 12]
    renumbered = torch.tensor([[kept.index(one) for one in row] for row in ids.tolist()])
    with torch.no_grad():
        expected = module(ids, mask).logits
        keep_pieces(module, kept)
        found = module(renumbered, mask).logits
    torch.testing.assert_close(found[mask.bool()], expected[mask.bool()])
    assert module.config.max_position_embeddings == 16
    assert (module.config.pad_token_id, module.config.bos_token_id) == (1, 2)
    assert module.roberta.embeddings.word_embeddings.padding_idx == 1


def test_what_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    before = candidate(tmp_path, "Bert", "wordpiece")
    context = small_context(tmp_path, train=TRAIN)
    with pytest.raises(StageError, match=r"keep is 20, but \d+ pieces are needed"):
        Trim(keep=20).apply(before, context)
    with pytest.raises(StageError, match="this one has none"):
        Trim().apply(replace(before, preprocessor=None), context)
    foreign = (words_example(words=("ሰላም", "ለዓለም")),)
    with pytest.raises(DataError, match="written in ETHIOPIC"):
        Trim().apply(before, small_context(tmp_path / "f", train=foreign))
    blank = (text_example(text="  "),)
    with pytest.raises(DataError, match="gives no piece at all"):
        Trim().apply(before, small_context(tmp_path / "b", train=blank))
    small = candidate(tmp_path / "s", "Bert", "wordpiece", rows=100)
    with pytest.raises(DataError, match="the model's embedding only 100 rows"):
        Trim().apply(small, small_context(tmp_path / "s2", train=TRAIN))
    for wrong in ({"keep": 0}, {"coverage": 1.5}, {"keep": 9, "coverage": 0.9}, {"corpus": []},
                  {"alphabet": "latin"}):  # fmt: skip
        with pytest.raises(ValidationError):
            Trim(**wrong)
