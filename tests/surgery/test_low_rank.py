"""Low-rank parts: what they compute, on disk and back, in training, and what is refused."""

import json

import numpy as np
import pytest
import torch
import transformers

from edgecompress.errors import DataError, StageError
from edgecompress.surgery.families import blocks, word_embedding
from edgecompress.surgery.heads_and_neurons import keep_heads_and_neurons
from edgecompress.surgery.low_rank import LowRankEmbedding, LowRankLinear, ranks
from edgecompress.surgery.model import load_module, save_module
from edgecompress.training.embedding import only_used_rows

WORDS = "bert.embeddings.word_embeddings"
QUERY = "bert.encoder.layer.1.attention.self.query"
IDS = torch.tensor([[3, 7, 9, 0], [7, 7, 4, 1]])


def module():
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=20,
    )
    return transformers.BertForTokenClassification._from_config(
        config, attn_implementation="eager"
    ).eval()


def factorized(full=False):
    """Split the word embedding and one linear layer by their singular values."""
    made = module()
    for path, rank in ((WORDS, 16 if full else 4), (QUERY, 16 if full else 5)):
        old = made.get_submodule(path)
        u, s, v = torch.linalg.svd(old.weight.detach(), full_matrices=False)
        left, right = u[:, :rank] * s[:rank], v[:rank]
        if path == WORDS:
            new = LowRankEmbedding.of(left, right.T, old.padding_idx)
        else:
            new = LowRankLinear.of(left, right, old.bias)
        made.set_submodule(path, new)
    return made


def answers(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_the_full_rank_answers_the_same():
    torch.testing.assert_close(answers(factorized(full=True)), answers(module()))
    made = factorized(full=True)
    for path in (WORDS, QUERY):
        torch.testing.assert_close(
            made.get_submodule(path).weight, module().get_submodule(path).weight
        )


def test_on_disk_and_back(tmp_path):
    made = factorized()
    keep_heads_and_neurons(made, [[0, 1], [0, 1]], [range(24), range(8)])
    model = save_module(made, tmp_path)
    record = json.loads((tmp_path / "surgery.json").read_text())
    assert record["format"] == 2
    assert record["ranks"] == {WORDS: 4, QUERY: 5}
    again = load_module(model)
    assert ranks(again) == record["ranks"]
    assert torch.equal(answers(again), answers(made))
    assert word_embedding(again).weight.shape == (50, 4)
    part = again.get_submodule(QUERY)
    assert (part.in_features, part.out_features, part.rank) == (16, 16, 5)
    assert part.bias is part.second.bias


def test_the_first_format_is_read(tmp_path):
    made = module()
    keep_heads_and_neurons(made, [[0], [0, 1]], [range(24), range(8)])
    model = save_module(made, tmp_path)
    file = tmp_path / "surgery.json"
    file.write_text('{"format": 1, "heads": [1, 2], "neurons": [24, 8]}')
    assert torch.equal(answers(load_module(model)), answers(made))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ranks": {"bert.nowhere": 4}}, "bert.nowhere, which this model has not"),
        ({"ranks": {QUERY: 0}}, "the rank 0"),
        ({"ranks": {"bert.encoder": 4}}, "no linear layer or embedding"),
        ({"ranks": [QUERY]}, "damaged surgery record"),
        ({"ranks": {}}, r"do not fit config\.json"),
        ({"format": 9}, "format 9 is newer"),
    ],
)
def test_damaged_records_are_refused(change, message, tmp_path):
    model = save_module(factorized(), tmp_path)
    file = tmp_path / "surgery.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(DataError, match=message):
        load_module(model)


def test_what_prunes_says_that_it_comes_before():
    made = factorized()
    with pytest.raises(StageError, match="put `factorize` after the stages that prune"):
        list(blocks(made))[1].part("query")
    assert isinstance(list(blocks(made))[1].linear("query"), LowRankLinear)


def test_used_rows_are_those_of_the_table():
    made, whole = factorized(), factorized()
    original = word_embedding(made)
    before = original.weight.detach().clone()
    for model in (made, whole):
        used = IDS.numpy().ravel() if model is made else np.arange(50)
        with only_used_rows(model, used):
            parameters = [p for p in model.parameters() if p.requires_grad]
            optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.0)
            for _ in range(2):
                optimizer.zero_grad()
                model(input_ids=IDS).logits.square().sum().backward()
                optimizer.step()
    assert word_embedding(made) is original
    changed = (original.weight != before).any(1)
    assert set(changed.nonzero().flatten().tolist()) == {1, 3, 4, 7, 9}
    torch.testing.assert_close(answers(made), answers(whole))
    projection = made.get_submodule(WORDS).projection.weight
    assert not torch.equal(projection, factorized().get_submodule(WORDS).projection.weight)
