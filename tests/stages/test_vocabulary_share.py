"""vocabulary.share: fewer rows, the same tokenizer, the same answers where rows stay."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import small_context
from onnx import TensorProto
from small_encoders import torch_logits
from trained_tokenizers import DEV, TRAIN, candidate

from edgecompress.errors import DataError, StageError
from edgecompress.models.storage import read_model
from edgecompress.processors import TextProcessor
from edgecompress.stage import check_stage
from edgecompress.stages.export import Export
from edgecompress.stages.factorize import Factorize
from edgecompress.stages.finetune import Finetune
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.stages.vocabulary.share import Share
from edgecompress.stages.vocabulary.trim import Trim
from edgecompress.surgery.families import word_embedding
from edgecompress.surgery.model import load_module, save_module
from edgecompress.surgery.sharing import SharedEmbedding, nearest, share_rows
from edgecompress.texts import words_example, words_of
from edgecompress.values import Candidate, Example

NAMES = ("input_ids", "attention_mask")


def used_ids(made: Candidate, examples: tuple[Example, ...]) -> set[int]:
    preprocessor = TextProcessor.load(made.preprocessor)
    pairs = preprocessor.encode_words([words_of(example) for example in examples])
    return {int(one) for ids, _ in pairs for one in ids}


@pytest.mark.parametrize(
    ("family", "kind"), [("Bert", "wordpiece"), ("XLMRoberta", "unigram"), ("Roberta", "byte-bpe")]
)
def test_answers_stay_where_rows_stay(family: str, kind: str, tmp_path: Path) -> None:
    before = candidate(
        tmp_path,
        family,
        kind,
        **({} if family == "Bert" else {"bos_token_id": 0, "eos_token_id": 2}),
    )
    used = used_ids(before, TRAIN)
    rows = len(used) + 8
    context = small_context(tmp_path, train=TRAIN, validation=DEV)
    after = check_stage(Share(rows=rows), before, context)
    decided = after.steps[-1].decisions
    assert after.preprocessor == before.preprocessor
    assert decided["rows"][1] == rows < decided["rows"][0]
    assert decided["corpus_shared"] == 0
    assert decided["held_out_shared"] > 0
    module = load_module(after.model)
    assert len(word_embedding(module).weight) == rows
    expected, _ = torch_logits(before, TRAIN, NAMES)
    found, _ = torch_logits(after, TRAIN, NAMES)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)
    specials = TextProcessor.load(after.preprocessor).tokenizer.get_added_tokens_decoder()
    place = module.get_input_embeddings().place[list(specials)].tolist()
    assert len(set(place)) == len(specials)  # each has a row of its own


def test_likest_of_the_same_kind() -> None:
    rows = np.array([[1, 0], [0, 1], [9, 1], [0.1, 2], [-1, -1], [5, 5]], np.float32)
    groups = np.array([0, 0, 0, 1, 0, 2])
    place = nearest(rows, np.array([0, 1, 4]), groups, np.zeros(2, np.float32))
    assert place.tolist()[:5] == [0, 1, 0, 1, 2]  # the fourth has none of its kind: any will do
    moved = nearest(rows, np.array([0, 1, 4]), groups, np.array([8, -3], np.float32))
    assert moved[2] == 1  # seen from elsewhere it points up


def test_it_is_found_again_by_stages_that_follow(tmp_path: Path) -> None:
    """Training, export and int8 see the rows; a piece without one trains that of another."""
    import onnxruntime

    before = candidate(tmp_path, "Bert", "wordpiece")
    rows = len(used_ids(before, TRAIN)) // 2
    shared = Share(rows=rows).apply(before, small_context(tmp_path / "1", train=TRAIN))
    assert 0 < shared.steps[-1].decisions["corpus_shared"] < 0.5
    learnt = Finetune(epochs=1, learning_rate=1e-2).apply(
        shared, small_context(tmp_path / "2", train=TRAIN, validation=DEV)
    )
    old, new = (load_module(made.model).get_input_embeddings() for made in (shared, learnt))
    assert isinstance(new, SharedEmbedding)
    assert torch.equal(old.place, new.place)
    moved = (old.table.weight != new.table.weight).any(dim=1)
    looked_up = {int(old.place[one]) for one in used_ids(before, TRAIN)}
    assert {int(one) for one in moved.nonzero()} >= looked_up
    mask = TextProcessor.load(before.preprocessor).tokenizer.token_to_id("[MASK]")
    assert not moved[old.place[mask]]  # no text gives it, and no piece looks like it
    exported = Export().apply(learnt, small_context(tmp_path / "3", train=TRAIN))
    graph = read_model(exported.model.path).proto.graph
    made = {node.op_type for node in graph.node}
    assert not {"GatherND", "GatherElements"} & made  # one Gather finds the row of a piece
    kinds = {one.data_type for one in graph.initializer if list(one.dims) == [300]}
    assert kinds == {TensorProto.UINT16}  # what row a piece has
    session = onnxruntime.InferenceSession(exported.model.path)
    expected, feeds = torch_logits(learnt, DEV, tuple(one.name for one in session.get_inputs()))
    for one, feed in zip(expected, feeds, strict=True):
        np.testing.assert_allclose(session.run(None, feed)[0], one, atol=1e-4)
    small = Dynamic().apply(exported, small_context(tmp_path / "4"))
    assert any("table" in name for name in small.steps[-1].decisions["int8_embeddings"])


def test_products_and_shared_rows_together(tmp_path: Path) -> None:
    before = candidate(tmp_path, "Bert", "wordpiece")
    thin = Factorize(embedding=16).apply(before, small_context(tmp_path / "1", train=TRAIN))
    both = check_stage(Share(rows=100), thin, small_context(tmp_path / "2", train=TRAIN))
    document = json.loads((both.model.directory / "surgery.json").read_text())
    assert document["shared"] == {"bert.embeddings.word_embeddings.table": 100}
    assert tuple(word_embedding(load_module(both.model)).weight.shape) == (100, 16)
    learnt = Finetune(epochs=1).apply(
        both, small_context(tmp_path / "3", train=TRAIN, validation=DEV)
    )
    assert tuple(word_embedding(load_module(learnt.model)).weight.shape) == (100, 16)


def test_what_is_refused(tmp_path: Path) -> None:
    before = candidate(tmp_path, "Bert", "wordpiece")
    context = small_context(tmp_path, train=TRAIN)
    with pytest.raises(StageError, match="rows is 900, but the embedding has only 300"):
        Share(rows=900).apply(before, context)
    with pytest.raises(StageError, match="rows is 3, but 5 special pieces need their own"):
        Share(rows=3).apply(before, context)
    foreign = (words_example(words=("ሰላም", "ለዓለም")),)
    with pytest.raises(DataError, match="written in ETHIOPIC"):
        Share(rows=100).apply(before, small_context(tmp_path / "f", train=foreign))
    shared = Share(rows=100).apply(before, context)
    with pytest.raises(StageError, match="shared already"):
        Share(rows=50).apply(shared, small_context(tmp_path / "2", train=TRAIN))
    with pytest.raises(StageError, match=r"put vocabulary\.trim before it"):
        Trim().apply(shared, small_context(tmp_path / "3", train=TRAIN))
    record = shared.model.directory / "surgery.json"
    text = record.read_text()
    for wrong in ('"bert.embeddings.word_embeddings": 0', '"bert.pooler.none": 100'):
        record.write_text(text.replace('"bert.embeddings.word_embeddings": 100', wrong))
        with pytest.raises(DataError, match="damaged surgery record"):
            load_module(shared.model)


def test_a_module_is_the_same_after_disk(tmp_path: Path) -> None:
    before = candidate(tmp_path, "Bert", "wordpiece")
    module = load_module(before.model)
    place = np.arange(300) % 7
    share_rows(module, "bert.embeddings.word_embeddings", place, range(7))
    again = load_module(save_module(module, tmp_path / "again"))
    ids = torch.tensor([[2, 9, 16, 299]])
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, module(ids).logits)
        rows = again.get_input_embeddings()(ids)[0]
    assert torch.equal(rows[0], rows[1])
    assert torch.equal(rows[1], rows[2])
    assert not torch.equal(rows[2], rows[3])
